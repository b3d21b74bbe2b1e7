"""An instance that is asked for: where, on what machine, with which GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulators.gcp_catalogue import MachineType, machines_in
from simulators.gcp_compute_shapes import invalid, last, not_found, path_of


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An instance that is asked for, and where."""

    body: Mapping[str, Any]
    project: str
    zone: str

    @property
    def region(self) -> str:
        """Return the region of the zone."""
        return self.zone.rpartition("-")[0]

    @property
    def scheduling(self) -> Mapping[str, Any]:
        """Return the part that says when it may end."""
        found: Mapping[str, Any] = self.body.get("scheduling") or {}
        return found

    @property
    def spot(self) -> bool:
        """Say whether it may be preempted."""
        return self.scheduling.get("provisioningModel") == "SPOT" or bool(
            self.scheduling.get("preemptible")
        )

    def machine(self) -> MachineType:
        """Return the machine type; refuses one that the zone does not have."""
        return machine_type(self)

    def gpus(self) -> tuple[str, int]:
        """Return model and number of the GPUs it is to have, attached or built in."""
        machine = self.machine()
        if machine.accelerator:
            return machine.accelerator, machine.gpus
        for each in self.body.get("guestAccelerators") or []:
            return last(each["acceleratorType"]), int(each["acceleratorCount"])
        return "", 0


def machine_type(wish: Wish) -> MachineType:
    """Return the machine type a wish names by a partial or full URL.

    Raises GoogleError 400 for a bare name, 404 for a type that the zone does not have.
    """
    url = wish.body.get("machineType", "")
    found = re.fullmatch(
        r"(?:projects/[^/]+/)?zones/(?P<zone>[^/]+)/machineTypes/(?P<name>[^/]+)", path_of(url)
    )
    if found is None:
        raise invalid("resource.machineType", url, "The URL is malformed.")
    if found["zone"] != wish.zone:
        raise invalid("resource.machineType", url, f"Machine type must be in zone '{wish.zone}'.")
    known = machines_in(wish.zone).get(found["name"])
    if known is None:
        raise not_found(wish.project, f"zones/{wish.zone}/machineTypes/{found['name']}")
    return known
