"""What becomes of an instance: from its order to its end, by the world's clock.

States: https://cloud.google.com/compute/docs/instances/instance-lifecycle. The delays are settings
(`POST /_sim/settings`); real ones are longer, and vary.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from simulators import gcp_operations as operations
from simulators.gcp_catalogue import ACCELERATORS, machine_types
from simulators.gcp_compute_shapes import last
from simulators.gcp_hands import Hands
from simulators.gcp_identity import identity_token, issue_access
from simulators.gcp_machines import Machine, NoMachines
from simulators.gcp_metadata_tree import metadata_tree
from simulators.gcp_state import Doc
from simulators.gcp_world import World

DELAYS = {
    "provisioning_s": 0.5,  # until STAGING, or until a lack of capacity is told
    "staging_s": 0.5,  # until RUNNING
    "stopping_s": 0.5,  # at least, from the power button to the end
    # At most, from the power button to the plug. Really 90 s or longer:
    # https://cloud.google.com/compute/docs/instances/deleting-instance
    "grace_s": 10.0,
    # The same for a Spot instance: https://cloud.google.com/compute/docs/instances/spot#preemption
    "preempt_s": 30.0,
    "maintenance_s": 60.0,  # from the notice on, /compute/docs/instances/live-migration-process
    "expiry_late_s": 0.0,  # by how much a time limit acts late; really up to 30 s
}
_OFF_CHECK_S = 0.2
_WATCH_S = 0.5
# Said by the real service of what it did by itself.
_SAID = {
    "preempted": "Instance was preempted.",
    "hostError": "Instance terminated by Compute Engine due to a host error.",
    "guestTerminate": "Instance terminated by guest OS shutdown.",
    "automaticRestart": "Instance automatically restarted by Compute Engine.",
    "terminateOnHostMaintenance": "Instance terminated during Compute Engine maintenance.",
    "migrateOnHostMaintenance": "Instance migrated during Compute Engine maintenance.",
    "deferredDelete": "Instance deleted when its run time ended.",
    "deferredStop": "Instance stopped when its run time ended.",
}
STARTING = ("PROVISIONING", "STAGING")


class Life:
    """Moves instances from state to state. Hold the world's lock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.hands = Hands(world.machines, world.lock)
        world.settings |= DELAYS
        for what, do in {
            "instance.staging": self._staged,
            "instance.running": self._running,
            "instance.off": self._off,
            "instance.expire": self._expired,
            "instance.suspended": self._suspended,
            "instance.resumed": self._resumed,
            "instance.power-button": self._preempted_off,
            "instance.maintained": self._maintained,
            "instance.delete-refused": self._delete_refused,
        }.items():
            world.on(what, do)

    # from order to running ----------------------------------------------------------------

    def launch(self, doc: Doc, operation: str, failure: Mapping[str, Any] | None = None) -> None:
        """Begin to start an instance; with `failure` it will not come to run."""
        doc["_starting"] = operation
        self._go(doc, "PROVISIONING")
        self._soon(doc, "provisioning_s", "instance.staging", operation, failure=failure)

    def _staged(self, event: Doc) -> None:
        doc = self._current(event)
        if doc is None:
            return
        failure = event["failure"]
        if failure:
            self._failed(doc, event["operation"], failure)
            return
        self._go(doc, "STAGING")
        self._soon(doc, "staging_s", "instance.running", event["operation"])

    def _failed(self, doc: Doc, operation: str, failure: Mapping[str, Any]) -> None:
        doc["_starting"] = ""
        match failure.get("leaves", "nothing"):
            case "stopped":
                self._stopped(doc)
            case "running":
                self._run(doc)
            case _:
                self.remove(doc)
        operations.fail(self._world, operation, failure)

    def _running(self, event: Doc) -> None:
        doc = self._current(event)
        if doc is not None:
            self._run(doc)
            operations.finish(self._world, event["operation"])

    def _run(self, doc: Doc) -> None:
        world = self._world
        doc["_starting"] = ""
        doc["lastStartTimestamp"] = world.stamp()
        limit = doc["scheduling"].get("maxRunDuration")
        if limit:
            seconds = float(limit["seconds"])
            end = world.stamp(world.now() + seconds)
            doc["resourceStatus"] = {"scheduling": {"terminationTimestamp": end}}
            world.later(
                seconds + world.delay("expiry_late_s"),
                "instance.expire",
                key=key(doc),
                id=doc["id"],
                started=doc["lastStartTimestamp"],
            )
        doc["_booted"] = False
        self._go(doc, "RUNNING")
        self._boot(doc)

    def _boot(self, doc: Doc) -> None:
        machines, name, number = self._world.machines, doc["_machine"], doc["id"]
        machine = self._machine(doc)

        def booted(address: str) -> None:
            found = self._world.store.get("instance", key(doc))
            if found is None or found["id"] != number:
                return
            interface = found["networkInterfaces"][0]
            if machines.isolated and interface["networkIP"] != address:
                interface["networkIP"] = address
                self.hands.do(
                    name,
                    lambda: machines.write(name, "instance/network-interfaces/0/ip", address),
                )
            found["_booted"] = True
            self._keep(found)

        self.hands.do(name, lambda: machines.boot(machine), booted)

    def _machine(self, doc: Doc) -> Machine:
        kind = machine_types()[last(doc["machineType"])]
        model, gpus = "", 0
        for each in doc.get("guestAccelerators", []):
            model = ACCELERATORS[last(each["acceleratorType"])].driver
            gpus = int(each["acceleratorCount"])
        return Machine(
            name=doc["_machine"],
            cpus=kind.cpus,
            memory_bytes=kind.memory_mb << 20,
            disk_bytes=int(doc["disks"][0]["diskSizeGb"]) << 30,
            gpus=gpus,
            gpu_model=model,
            boot_image=doc["_image"],
            metadata=metadata_tree(self._world, doc),
        )

    # from running to the end --------------------------------------------------------------

    def shut(self, doc: Doc, to: str, *, operation: str = "", grace_s: float | None = None) -> None:
        """Press the power button, later pull the plug; `to`: TERMINATED, gone or restart."""
        world = self._world
        self._give_up_start(doc)
        self._go(doc, "STOPPING")
        name = doc["_machine"]
        if grace_s == 0:
            self.hands.do(name, lambda: world.machines.power_off(name))
        else:
            self.hands.do(name, lambda: world.machines.soft_off(name))
        grace = world.delay("grace_s") if grace_s is None else grace_s
        self._soon(doc, "stopping_s", "instance.off", operation, to=to, plug_at=world.now() + grace)

    def _give_up_start(self, doc: Doc) -> None:
        if doc["_starting"]:
            operations.finish(self._world, doc["_starting"])
            doc["_starting"] = ""

    def _off(self, event: Doc) -> None:
        doc, world = self._current(event), self._world
        if doc is None:
            return
        name = doc["_machine"]
        up = doc.get("_booted") and world.machines.state(name) != "off"
        if up and world.now() < event["plug_at"]:
            again = {name: value for name, value in event.items() if name not in {"at", "what"}}
            world.later(_OFF_CHECK_S, "instance.off", **again)
            return
        self.hands.do(name, lambda: world.machines.power_off(name))
        match event["to"]:
            case "gone":
                self.remove(doc)
            case "restart":
                self._stopped(doc)
                self._say(doc, "automaticRestart")
                self.launch(doc, "")
            case _:
                self._stopped(doc)
        operations.finish(world, event["operation"])

    def _stopped(self, doc: Doc) -> None:
        doc["_starting"] = ""
        doc["lastStopTimestamp"] = self._world.stamp()
        doc["resourceStatus"] = {}
        for interface in doc["networkInterfaces"]:
            for config in interface.get("accessConfigs", []):
                config.pop("natIP", None)  # an ephemeral address goes back with every stop
        self._go(doc, "TERMINATED")

    def remove(self, doc: Doc) -> None:
        """Take an instance out of the world, with its disks unless they are to stay."""
        world, name = self._world, doc["_machine"]
        self._give_up_start(doc)
        self.hands.do(name, lambda: world.machines.remove(name))
        self.hands.forget(name)
        zone = last(doc["zone"])
        for disk in doc["disks"]:
            where = f"{zone}/{last(disk.get('source', ''))}"
            found = world.store.get("disk", where)
            if found is None:
                continue
            if disk["autoDelete"]:
                world.store.delete("disk", where)
            else:
                found["users"] = []
                world.store.put("disk", where, found)
        world.store.delete("instance", key(doc))
        for operation in doc["_deletes"]:
            operations.finish(world, operation)

    def refuse_delete(self, doc: Doc, operation: str, failure: Mapping[str, Any]) -> None:
        """Have a delete fail after a while; the instance goes on."""
        self._soon(doc, "stopping_s", "instance.delete-refused", operation, failure=failure)

    def _delete_refused(self, event: Doc) -> None:
        operations.fail(self._world, event["operation"], event["failure"])

    def _expired(self, event: Doc) -> None:
        doc = self._world.store.get("instance", event["key"])
        if doc is None or doc["id"] != event["id"] or doc["status"] != "RUNNING":
            return
        if doc["lastStartTimestamp"] != event["started"]:
            return  # stopped and started since: the time begins anew
        gone = doc["scheduling"]["instanceTerminationAction"] == "DELETE"
        self._say(doc, "deferredDelete" if gone else "deferredStop")
        self.shut(doc, "gone" if gone else "TERMINATED")

    # what the cloud does by itself --------------------------------------------------------

    def preempt(self, doc: Doc) -> None:
        """Take a Spot instance back: notice, power button, plug; then delete or stop it.

        One that is still starting stays behind stopped, and its insert fails
        (scylladb/scylla-cluster-tests#2840).
        """
        self._say(doc, "preempted")
        if doc["status"] in STARTING:
            starting, doc["_starting"] = doc["_starting"], ""
            self._stopped(doc)
            operations.fail(self._world, starting, PREEMPTED_STARTING)
            return
        self.tell(doc, "instance/preempted", "TRUE")
        notice = doc["scheduling"].get("preemptionNoticeDuration") or {"seconds": 0}
        self._world.later(
            float(notice["seconds"]), "instance.power-button", key=key(doc), turn=doc["_turn"]
        )
        self._world.run_due()

    def _preempted_off(self, event: Doc) -> None:
        doc = self._current(event)
        if doc is not None:
            gone = doc["scheduling"].get("instanceTerminationAction") == "DELETE"
            grace = self._world.delay("preempt_s")
            self.shut(doc, "gone" if gone else "TERMINATED", grace_s=grace)

    def host_error(self, doc: Doc) -> None:
        """Have the host fail: off at once; restarted where that was asked for."""
        self._say(doc, "hostError")
        self.shut(doc, self._after_trouble(doc), grace_s=0)

    def guest_off(self, doc: Doc) -> None:
        """Take note that a machine switched itself off."""
        self._say(doc, "guestTerminate")
        self._stopped(doc)

    def vanish(self, doc: Doc) -> None:
        """Have an instance be gone with no word in any list."""
        for disk in doc["disks"]:
            disk["autoDelete"] = True
        self.remove(doc)

    def maintain(self, doc: Doc, operation: str = "") -> None:
        """Announce host maintenance, and carry it out after the notice."""
        policy = doc["scheduling"]["onHostMaintenance"]
        self.tell(doc, "instance/maintenance-event", f"{policy}_ON_HOST_MAINTENANCE")
        self._soon(doc, "maintenance_s", "instance.maintained", operation)

    def _maintained(self, event: Doc) -> None:
        doc = self._current(event)
        if doc is None:
            return
        self.tell(doc, "instance/maintenance-event", "NONE")
        if doc["scheduling"]["onHostMaintenance"] == "MIGRATE":
            self._say(doc, "migrateOnHostMaintenance")
            operations.finish(self._world, event["operation"])
            return
        self._say(doc, "terminateOnHostMaintenance")
        self.shut(doc, self._after_trouble(doc), operation=event["operation"])

    def _after_trouble(self, doc: Doc) -> str:
        return "restart" if doc["scheduling"]["automaticRestart"] else "TERMINATED"

    # suspend and resume -------------------------------------------------------------------

    def suspend(self, doc: Doc, operation: str = "") -> None:
        """Put an instance to sleep."""
        self._go(doc, "SUSPENDING")
        self._soon(doc, "stopping_s", "instance.suspended", operation)

    def _suspended(self, event: Doc) -> None:
        doc = self._current(event)
        if doc is not None:
            name = doc["_machine"]
            self.hands.do(name, lambda: self._world.machines.freeze(name, frozen=True))
            doc["lastSuspendedTimestamp"] = self._world.stamp()
            self._go(doc, "SUSPENDED")
            operations.finish(self._world, event["operation"])

    def resume(self, doc: Doc, operation: str) -> None:
        """Wake an instance up."""
        self._go(doc, "STAGING")
        self._soon(doc, "staging_s", "instance.resumed", operation)

    def _resumed(self, event: Doc) -> None:
        doc = self._current(event)
        if doc is not None:
            name = doc["_machine"]
            self.hands.do(name, lambda: self._world.machines.freeze(name, frozen=False))
            self._go(doc, "RUNNING")
            operations.finish(self._world, event["operation"])

    # common parts -------------------------------------------------------------------------

    def begin(self) -> None:
        """Take up the instances that an earlier program left, and give machines identities."""
        machines = self._world.machines
        machines.sign_identity(self._identity)
        machines.issue_token(self._access)
        for doc in list(self._world.store.all("instance").values()):
            if doc["status"] == "RUNNING" and isinstance(machines, NoMachines):
                self._boot(doc)
            elif doc["status"] in {"RUNNING", "SUSPENDED", "SUSPENDING"}:
                self.host_error(doc)  # its machine ended with the program
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
                        self.guest_off(doc)
                world.changed.wait(_WATCH_S)

    def tell(self, doc: Doc, path: str, value: object) -> None:
        """Change a value of an instance's metadata."""
        name = doc["_machine"]
        self.hands.do(name, lambda: self._world.machines.write(name, path, value))

    def _say(self, doc: Doc, what: str) -> None:
        scope = f"zones/{last(doc['zone'])}"
        target = (doc["selfLink"], doc["id"])
        operations.system(self._world, f"compute.instances.{what}", scope, target, _SAID[what])

    def _go(self, doc: Doc, status: str) -> None:
        doc["status"] = status
        # What was planned for an earlier state, or an earlier instance of this name, is void now.
        doc["_turn"] = self._world.store.count("turn")
        self._keep(doc)

    def _keep(self, doc: Doc) -> None:
        self._world.store.put("instance", key(doc), doc)

    def _soon(self, doc: Doc, delay: str, what: str, operation: str, **more: Any) -> None:
        facts = {"key": key(doc), "turn": doc["_turn"], "operation": operation, **more}
        self._world.later(self._world.delay(delay), what, **facts)

    def _current(self, event: Doc) -> Doc | None:
        doc = self._world.store.get("instance", event["key"])
        if doc is not None and doc["_turn"] == event["turn"]:
            return doc
        operations.finish(self._world, event.get("operation", ""))  # overtaken by another
        return None


def key(doc: Mapping[str, Any]) -> str:
    """Return what an instance is kept under."""
    return f"{last(doc['zone'])}/{doc['name']}"


PREEMPTED_STARTING = {
    "code": "PREEMPTED",
    "message": "Instance failed to start due to preemption.",
    "http": 400,
}
