"""What happens to an instance that nobody ordered: preemption, host errors, maintenance, sleep."""

from __future__ import annotations

from simulators import gcp_operations as operations
from simulators.gcp_http import GoogleError
from simulators.gcp_life import STARTING, Life, key
from simulators.gcp_state import Doc
from simulators.gcp_world import World

PREEMPTED_STARTING = {
    "code": "PREEMPTED",
    "message": "Instance failed to start due to preemption.",
    "http": 400,
}


class Interruptions:
    """Interrupts the lives of instances. Hold the world's lock."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life
        for what, do in {
            "instance.suspended": self._suspended,
            "instance.resumed": self._resumed,
            "instance.power-button": self._preempted_off,
            "instance.maintained": self._maintained,
        }.items():
            world.on(what, do)

    def preempt(self, doc: Doc) -> None:
        """Take a Spot instance back: notice, power button, plug; then delete or stop it.

        One that is still starting stays behind stopped, and its insert fails
        (scylladb/scylla-cluster-tests#2840).
        """
        if not doc["scheduling"]["preemptible"]:
            raise GoogleError(400, f"{doc['name']}: is no Spot instance; only those are preempted.")
        self._life.say(doc, "preempted")
        if doc["status"] in STARTING:
            starting, doc["_starting"] = doc["_starting"], ""
            self._life.stopped(doc)
            operations.fail(self._world, starting, PREEMPTED_STARTING)
            return
        self._life.tell(doc, "instance/preempted", "TRUE")
        notice = doc["scheduling"].get("preemptionNoticeDuration") or {"seconds": 0}
        self._world.later(
            float(notice["seconds"]), "instance.power-button", key=key(doc), turn=doc["_turn"]
        )
        self._world.run_due()

    def _preempted_off(self, event: Doc) -> None:
        doc = self._life.current(event)
        if doc is not None:
            gone = doc["scheduling"].get("instanceTerminationAction") == "DELETE"
            grace = self._world.delay("preempt_s")
            self._life.shut(doc, "gone" if gone else "TERMINATED", grace_s=grace)

    def host_error(self, doc: Doc) -> None:
        """Have the host fail: off at once; restarted where that was asked for."""
        self._life.say(doc, "hostError")
        self._life.shut(doc, self._after_trouble(doc), grace_s=0)

    def guest_off(self, doc: Doc) -> None:
        """Take note that a machine switched itself off."""
        self._life.say(doc, "guestTerminate")
        self._life.stopped(doc)

    def vanish(self, doc: Doc) -> None:
        """Have an instance be gone with no word in any list."""
        for disk in doc["disks"]:
            disk["autoDelete"] = True
        self._life.remove(doc)

    def maintain(self, doc: Doc, operation: str = "") -> None:
        """Announce host maintenance, and carry it out after the notice."""
        policy = doc["scheduling"]["onHostMaintenance"]
        self._life.tell(doc, "instance/maintenance-event", f"{policy}_ON_HOST_MAINTENANCE")
        self._life.soon(doc, "maintenance_s", "instance.maintained", operation)

    def _maintained(self, event: Doc) -> None:
        doc = self._life.current(event)
        if doc is None:
            return
        self._life.tell(doc, "instance/maintenance-event", "NONE")
        if doc["scheduling"]["preemptible"]:
            # https://cloud.google.com/compute/docs/instances/simulating-host-maintenance: how to
            # test preemption.
            operations.finish(self._world, event["operation"])
            self.preempt(doc)
            return
        if doc["scheduling"]["onHostMaintenance"] == "MIGRATE":
            self._life.say(doc, "migrateOnHostMaintenance")
            operations.finish(self._world, event["operation"])
            return
        self._life.say(doc, "terminateOnHostMaintenance")
        self._life.shut(doc, self._after_trouble(doc), operation=event["operation"])

    def _after_trouble(self, doc: Doc) -> str:
        return "restart" if doc["scheduling"]["automaticRestart"] else "TERMINATED"

    def suspend(self, doc: Doc, operation: str = "") -> None:
        """Put an instance to sleep."""
        self._life.go(doc, "SUSPENDING")
        self._life.soon(doc, "stopping_s", "instance.suspended", operation)

    def _suspended(self, event: Doc) -> None:
        doc = self._life.current(event)
        if doc is not None:
            name = doc["_machine"]
            self._life.hands.do(name, lambda: self._world.machines.freeze(name, frozen=True))
            doc["lastSuspendedTimestamp"] = self._world.stamp()
            self._life.go(doc, "SUSPENDED")
            operations.finish(self._world, event["operation"])

    def resume(self, doc: Doc, operation: str) -> None:
        """Wake an instance up."""
        self._life.go(doc, "STAGING")
        self._life.soon(doc, "staging_s", "instance.resumed", operation)

    def _resumed(self, event: Doc) -> None:
        doc = self._life.current(event)
        if doc is not None:
            name = doc["_machine"]
            self._life.hands.do(name, lambda: self._world.machines.freeze(name, frozen=False))
            self._life.go(doc, "RUNNING")
            operations.finish(self._world, event["operation"])
