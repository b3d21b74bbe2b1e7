"""What becomes of an instance: from its order to its end, by the world's clock.

States: https://cloud.google.com/compute/docs/instances/instance-lifecycle. The delays are settings
(`POST /_sim/settings`); real ones are longer, and vary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulators import gcp_operations as operations
from simulators.gcp_catalogue import ACCELERATORS, machine_types
from simulators.gcp_compute_shapes import last
from simulators.gcp_hands import Hands
from simulators.gcp_machines import Machine
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
            "instance.delete-refused": self._delete_refused,
        }.items():
            world.on(what, do)

    # from order to running ----------------------------------------------------------------

    def launch(self, doc: Doc, operation: str, failure: Mapping[str, Any] | None = None) -> None:
        """Begin to start an instance; with `failure` it will not come to run."""
        doc["_starting"] = operation
        self.go(doc, "PROVISIONING")
        self.soon(doc, "provisioning_s", "instance.staging", operation, failure=failure)

    def _staged(self, event: Doc) -> None:
        doc = self.current(event)
        if doc is None:
            return
        failure = event["failure"]
        if failure:
            self._failed(doc, event["operation"], failure)
            return
        self.go(doc, "STAGING")
        self.soon(doc, "staging_s", "instance.running", event["operation"])

    def _failed(self, doc: Doc, operation: str, failure: Mapping[str, Any]) -> None:
        doc["_starting"] = ""
        match failure.get("leaves", "nothing"):
            case "stopped":
                self.stopped(doc)
            case "running":
                self._run(doc)
            case _:
                self.remove(doc)
        operations.fail(self._world, operation, failure)

    def _running(self, event: Doc) -> None:
        doc = self.current(event)
        if doc is not None:
            self._run(doc)
            operations.finish(self._world, event["operation"])

    def _run(self, doc: Doc) -> None:
        world = self._world
        doc["_starting"] = ""
        doc["lastStartTimestamp"] = world.stamp()
        seconds = self._time_limit(doc)
        if seconds is not None:
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
        self.go(doc, "RUNNING")
        self.boot(doc)

    def _time_limit(self, doc: Doc) -> float | None:
        limit = doc["scheduling"].get("maxRunDuration")
        if limit:
            return float(limit["seconds"])
        end = doc["scheduling"].get("terminationTime")
        return max(0.0, self._world.epoch(end) - self._world.now()) if end else None

    def boot(self, doc: Doc) -> None:
        """Have its machine boot, and its address known once it has one."""
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
            metadata=self._metadata(doc),
        )

    def _metadata(self, doc: Doc) -> Doc:
        tree = metadata_tree(self._world, doc)
        about = {"zone": last(doc["zone"]), "name": doc["name"]}
        if self._world.faults.take("no_driver", about):
            tree["instance"]["attributes"]["simulated-gpu-driver"] = "fails"
        return tree

    # from running to the end --------------------------------------------------------------

    def shut(self, doc: Doc, to: str, *, operation: str = "", grace_s: float | None = None) -> None:
        """Press the power button, later pull the plug; `to`: TERMINATED, gone or restart."""
        world = self._world
        self._give_up_start(doc)
        self.go(doc, "STOPPING")
        name = doc["_machine"]
        if grace_s == 0:
            self.hands.do(name, lambda: world.machines.power_off(name))
        else:
            self.hands.do(name, lambda: world.machines.soft_off(name))
        grace = world.delay("grace_s") if grace_s is None else grace_s
        self.soon(doc, "stopping_s", "instance.off", operation, to=to, plug_at=world.now() + grace)

    def _give_up_start(self, doc: Doc) -> None:
        if doc["_starting"]:
            operations.finish(self._world, doc["_starting"])
            doc["_starting"] = ""

    def _off(self, event: Doc) -> None:
        doc, world = self.current(event), self._world
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
                self.stopped(doc)
                self.say(doc, "automaticRestart")
                self.launch(doc, "")
            case _:
                self.stopped(doc)
        operations.finish(world, event["operation"])

    def stopped(self, doc: Doc) -> None:
        """Have an instance be TERMINATED."""
        doc["_starting"] = ""
        doc["lastStopTimestamp"] = self._world.stamp()
        doc["resourceStatus"] = {}
        for interface in doc["networkInterfaces"]:
            for config in interface.get("accessConfigs", []):
                config.pop("natIP", None)  # an ephemeral address goes back with every stop
        self.go(doc, "TERMINATED")

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
        self.soon(doc, "stopping_s", "instance.delete-refused", operation, failure=failure)

    def _delete_refused(self, event: Doc) -> None:
        operations.fail(self._world, event["operation"], event["failure"])

    def _expired(self, event: Doc) -> None:
        doc = self._world.store.get("instance", event["key"])
        if doc is None or doc["id"] != event["id"] or doc["status"] != "RUNNING":
            return
        if doc["lastStartTimestamp"] != event["started"]:
            return  # stopped and started since: the time begins anew
        gone = doc["scheduling"]["instanceTerminationAction"] == "DELETE"
        self.say(doc, "deferredDelete" if gone else "deferredStop")
        self.shut(doc, "gone" if gone else "TERMINATED")

    # common parts -------------------------------------------------------------------------

    def tell(self, doc: Doc, path: str, value: object) -> None:
        """Change a value of an instance's metadata."""
        name = doc["_machine"]
        self.hands.do(name, lambda: self._world.machines.write(name, path, value))

    def say(self, doc: Doc, what: str) -> None:
        """Write down in the zone's operations what Compute Engine did by itself."""
        scope = f"zones/{last(doc['zone'])}"
        target = (doc["selfLink"], doc["id"])
        operations.system(self._world, f"compute.instances.{what}", scope, target, _SAID[what])

    def go(self, doc: Doc, status: str) -> None:
        """Have an instance be in a state."""
        doc["status"] = status
        # What was planned for an earlier state, or an earlier instance of this name, is void now.
        doc["_turn"] = self._world.store.count("turn")
        self._keep(doc)

    def _keep(self, doc: Doc) -> None:
        self._world.store.put("instance", key(doc), doc)

    def soon(self, doc: Doc, delay: str, what: str, operation: str, **more: Any) -> None:
        """Plan an event that is void when the instance goes into another state before."""
        facts = {"key": key(doc), "turn": doc["_turn"], "operation": operation, **more}
        self._world.later(self._world.delay(delay), what, **facts)

    def current(self, event: Doc) -> Doc | None:
        """Return the instance of an event; None if the event is void, and its operation ends."""
        doc = self._world.store.get("instance", event["key"])
        if doc is not None and doc["_turn"] == event["turn"]:
            return doc
        operations.finish(self._world, event.get("operation", ""))  # overtaken by another
        return None


def key(doc: Mapping[str, Any]) -> str:
    """Return what an instance is kept under."""
    return f"{last(doc['zone'])}/{doc['name']}"
