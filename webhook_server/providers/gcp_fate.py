"""Tell from an instance's resource and its zone's operations what became of it: pure.

System operations are the only record of a preemption that came before the first line of code in
the guest ran. https://cloud.google.com/compute/docs/instances/create-use-spot#detect
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from webhook_server.providers.gcp_refusals import failed, of_operation, was_preempted
from webhook_server.providers.provider import Fate, Instance, InstanceNotFound

#: operationType → what it did, in the order in which one explains the others.
CAUSES: Mapping[str, tuple[Fate, str]] = {
    "compute.instances.preempted": (Fate.PREEMPTED, "preempted by Google Cloud"),
    "compute.instances.hostError": (Fate.HOST_ERROR, "its host failed"),
    "compute.instances.terminateOnHostMaintenance": (Fate.HOST_ERROR, "its host was maintained"),
    "compute.instances.deferredDelete": (Fate.STOPPED, "ended at its own time limit"),
    "compute.instances.deferredStop": (Fate.STOPPED, "ended at its own time limit"),
    "compute.instances.guestTerminate": (Fate.STOPPED, "it switched itself off"),
    "suspend": (Fate.SUSPENDED, "suspended"),
    "stop": (Fate.STOPPED, "stopped"),
    "delete": (Fate.ENDING, "deleted"),
}
_STARTING = ("PENDING", "PROVISIONING", "STAGING")
_EXECUTING = (*_STARTING, "RUNNING", "PENDING_STOP", "STOPPING", "SUSPENDING")
_SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class Found:
    """An instance as its resource shows it."""

    zone: str
    resource: Mapping[str, Any]
    usd_per_hour: Decimal | None


def explains_itself(resource: Mapping[str, Any]) -> bool:
    """Say whether the status alone tells what became of it."""
    return resource.get("status") in (*_STARTING, "RUNNING", "SUSPENDING", "SUSPENDED")


def described(found: Found, operations: Sequence[Mapping[str, Any]] = ()) -> Instance:
    """Return the instance.

    Raises: what its failed insert means, when that left a stopped instance behind.
    """
    status = str(found.resource.get("status", ""))
    fate, why = _fate(status, operations)
    alive = status in _EXECUTING
    insert = _insert(operations)
    if insert is not None and failed(insert) and not alive:
        if not was_preempted(insert):
            raise of_operation(insert, found.zone)
        fate, why = Fate.PREEMPTED, "preempted while it started"
    return Instance(
        name=str(found.resource["name"]),
        place=found.zone,
        alive=alive,
        detail=f"{status}: {why}" if why else status,
        fate=fate,
        usd_per_hour=found.usd_per_hour,
        vendor_id=str(found.resource.get("id", "")),
    )


def _fate(status: str, operations: Sequence[Mapping[str, Any]]) -> tuple[Fate, str]:
    if status in _STARTING:
        return Fate.STARTING, ""
    if status == "RUNNING":
        return Fate.RUNNING, ""
    if status in ("SUSPENDING", "SUSPENDED"):
        return Fate.SUSPENDED, ""
    if status == "REPAIRING":
        return Fate.HOST_ERROR, "its host failed"
    cause = _cause(operations)
    if cause is not None:
        return cause
    return (Fate.ENDING, "") if status == "DEPROVISIONING" else (Fate.STOPPED, "")


def absent(
    name: str, zone: str, operations: Sequence[Mapping[str, Any]], *, may_be_hidden: bool
) -> Instance:
    """Return an instance that is on its way although no list shows it.

    `may_be_hidden`: its insert ended so lately that the lists may not show it yet.
    Raises: what its failed insert means; InstanceNotFound with the cause, where it is recorded.
    """
    insert = _insert(operations)
    cause = _cause(operations)
    if insert is not None and insert.get("status") != "DONE":
        return _on_its_way(name, zone, f"insert {insert.get('status')}")
    if insert is not None and failed(insert):
        if was_preempted(insert):
            text = f"{name}: preempted while it started, in {zone}"
            raise InstanceNotFound(text, fate=Fate.PREEMPTED)
        raise of_operation(insert, zone)
    if cause is not None:
        fate, why = cause
        raise InstanceNotFound(f"{name}: {why}, in {zone}", fate=fate)
    if insert is not None and may_be_hidden:
        return _on_its_way(name, zone, "ordered, and not listed yet")
    where = f" in {zone}" if zone else ""
    raise InstanceNotFound(f"Google Cloud has no instance {name!r}{where}")


def _on_its_way(name: str, zone: str, detail: str) -> Instance:
    return Instance(name=name, place=zone, alive=True, detail=detail, fate=Fate.STARTING)


def _insert(operations: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    inserts = [operation for operation in operations if operation.get("operationType") == "insert"]
    return max(inserts, key=lambda operation: str(operation.get("insertTime")), default=None)


def _cause(operations: Sequence[Mapping[str, Any]]) -> tuple[Fate, str] | None:
    """Return what ended it, the deepest cause first: a preemption is followed by a delete."""
    for kind, (fate, why) in CAUSES.items():
        for operation in operations:
            if operation.get("operationType") == kind and not failed(operation):
                return fate, f"{why}{_by(operation)}"
    return None


def _by(operation: Mapping[str, Any]) -> str:
    """Return what sort of account did it, and when; its address is not for a public check run."""
    user, at = str(operation.get("user", "")), str(operation.get("insertTime", ""))
    by = " by an account of the project" if user and not user.startswith(_SYSTEM) else ""
    return f"{by} at {at}" if at else by
