"""Joins instances and the machines that play them: identities, restarts, power-offs inside."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from simulators.gcp_identity import identity_token, issue_access
from simulators.gcp_interruptions import Interruptions
from simulators.gcp_life import Life
from simulators.gcp_machines import NoMachines
from simulators.gcp_state import Doc
from simulators.gcp_world import World

_WATCH_S = 0.5


class Played:
    """The machines' side of the instances."""

    def __init__(self, world: World, life: Life, interruptions: Interruptions) -> None:
        self._world = world
        self._life = life
        self._interruptions = interruptions

    def begin(self) -> None:
        """Take up the instances that an earlier program left, and give machines identities."""
        machines = self._world.machines
        machines.sign_identity(self._identity)
        machines.issue_token(self._access)
        for doc in list(self._world.store.all("instance").values()):
            if doc["status"] == "RUNNING" and isinstance(machines, NoMachines):
                self._life.boot(doc)
            elif doc["status"] in {"RUNNING", "SUSPENDED", "SUSPENDING"}:
                self._interruptions.host_error(doc)  # its machine ended with the program
        if not isinstance(machines, NoMachines):
            threading.Thread(target=self._watch, name="gcp-watch", daemon=True).start()

    def _identity(self, name: str, audience: str, form: str) -> str:
        with self._world.lock:
            return identity_token(self._world, self._played(name), audience, form)

    def _access(self, name: str) -> Mapping[str, Any]:
        with self._world.lock:
            account = self._played(name)["serviceAccounts"][0]
            return issue_access(self._world, account["email"], account.get("scopes") or [])

    def _played(self, machine: str) -> Doc:
        for doc in self._world.store.all("instance").values():
            if doc["_machine"] == machine and doc["serviceAccounts"]:
                return doc
        raise LookupError(f"{machine}: there is no such instance, or it has no service account.")

    def _watch(self) -> None:
        """Look for machines that switched themselves off, until the world stops."""
        world = self._world
        with world.lock:
            while not world.stopping:
                for doc in list(world.store.all("instance").values()):
                    running = doc["status"] == "RUNNING" and doc.get("_booted")
                    if running and world.machines.state(doc["_machine"]) == "off":
                        self._interruptions.guest_off(doc)
                world.changed.wait(_WATCH_S)
