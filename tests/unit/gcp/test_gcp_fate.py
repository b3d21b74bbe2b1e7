"""What became of an instance, from its resource and its zone's operations."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from webhook_server.providers.gcp_fate import Found, absent, described, explains_itself
from webhook_server.providers.provider import (
    Fate,
    InstanceNotFound,
    Misconfigured,
    NoCapacity,
)

NAME, ZONE, AT = "cynthus-arun00000001-1", "us-central1-a", "2026-08-03T10:00:00.000-07:00"


def found(status: str) -> Found:
    resource = {"name": NAME, "id": "42", "status": status}
    return Found(zone=ZONE, resource=resource, usd_per_hour=Decimal("0.86"))


def done(kind: str, user: str = "system", **more: Any) -> dict[str, Any]:
    return {"operationType": kind, "status": "DONE", "user": user, "insertTime": AT, **more}


INSERTED = done("insert", "server@cynthus.iam.gserviceaccount.com")
FAILED = {"error": {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "none"}]}}
PREEMPTED_AT_BIRTH = {"error": {"errors": [{"code": "PREEMPTED", "message": "lost"}]}}


@pytest.mark.parametrize(
    ("status", "fate", "alive"),
    [
        ("PENDING", Fate.STARTING, True),
        ("PROVISIONING", Fate.STARTING, True),
        ("STAGING", Fate.STARTING, True),
        ("RUNNING", Fate.RUNNING, True),
        ("SUSPENDING", Fate.SUSPENDED, True),
        ("SUSPENDED", Fate.SUSPENDED, False),
        ("REPAIRING", Fate.HOST_ERROR, False),
        ("STOPPING", Fate.STOPPED, True),
        ("TERMINATED", Fate.STOPPED, False),
        ("STOPPED", Fate.STOPPED, False),
        ("DEPROVISIONING", Fate.ENDING, False),
    ],
)
def test_a_status_alone(status: str, fate: Fate, alive: bool) -> None:
    seen = described(found(status))
    assert (seen.fate, seen.alive, seen.place, seen.vendor_id) == (fate, alive, ZONE, "42")
    assert seen.usd_per_hour == Decimal("0.86")


@pytest.mark.parametrize(
    ("kind", "user", "fate", "text"),
    [
        (
            "compute.instances.preempted",
            "system",
            Fate.PREEMPTED,
            f"preempted by Google Cloud at {AT}",
        ),
        ("compute.instances.hostError", "system", Fate.HOST_ERROR, f"its host failed at {AT}"),
        (
            "compute.instances.guestTerminate",
            "system",
            Fate.STOPPED,
            f"it switched itself off at {AT}",
        ),
        (
            "compute.instances.deferredDelete",
            "system",
            Fate.STOPPED,
            f"ended at its own time limit at {AT}",
        ),
        ("stop", "eve@example.com", Fate.STOPPED, f"stopped by an account of the project at {AT}"),
        (
            "suspend",
            "eve@example.com",
            Fate.SUSPENDED,
            f"suspended by an account of the project at {AT}",
        ),
        ("delete", "eve@example.com", Fate.ENDING, f"deleted by an account of the project at {AT}"),
    ],
)
def test_the_operation_says_why_it_ends_and_why_it_is_gone(
    kind: str, user: str, fate: Fate, text: str
) -> None:
    operations = [INSERTED, done(kind, user)]
    seen = described(found("STOPPING"), operations)
    assert (seen.fate, seen.detail) == (fate, f"STOPPING: {text}")
    with pytest.raises(InstanceNotFound) as gone:
        absent(NAME, ZONE, operations, may_be_hidden=True)
    assert gone.value.fate is fate
    assert str(gone.value) == f"{NAME}: {text}, in {ZONE}"


def test_a_preemption_explains_the_delete_that_follows_it() -> None:
    operations = [INSERTED, done("delete"), done("compute.instances.preempted")]
    with pytest.raises(InstanceNotFound) as gone:
        absent(NAME, ZONE, operations, may_be_hidden=False)
    assert gone.value.fate is Fate.PREEMPTED


def test_a_failed_stop_explains_nothing() -> None:
    operations = [INSERTED, done("stop", **FAILED)]
    with pytest.raises(InstanceNotFound) as gone:
        absent(NAME, ZONE, operations, may_be_hidden=False)
    assert gone.value.fate is None


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_an_order_under_way_is_starting(status: str) -> None:
    pending = INSERTED | {"status": status}
    assert absent(NAME, ZONE, [pending], may_be_hidden=False).fate is Fate.STARTING


def test_what_was_just_made_may_be_hidden_for_a_while() -> None:
    assert absent(NAME, ZONE, [INSERTED], may_be_hidden=True).fate is Fate.STARTING
    with pytest.raises(InstanceNotFound):
        absent(NAME, ZONE, [INSERTED], may_be_hidden=False)


def test_nothing_at_all_is_known_of_it() -> None:
    with pytest.raises(InstanceNotFound, match=f"has no instance '{NAME}'$") as gone:
        absent(NAME, "", [], may_be_hidden=True)
    assert gone.value.fate is None


def test_an_order_that_could_not_be_met_says_why() -> None:
    operations = [INSERTED | FAILED]
    with pytest.raises(NoCapacity):
        absent(NAME, ZONE, operations, may_be_hidden=True)
    with pytest.raises(NoCapacity):  # it left a stopped instance behind
        described(found("TERMINATED"), operations)
    assert described(found("RUNNING"), operations).fate is Fate.RUNNING  # it came all the same


def test_our_own_fault_is_told_as_such() -> None:
    bad = {"httpErrorStatusCode": 400, "error": {"errors": [{"code": "INVALID_USAGE"}]}}
    with pytest.raises(Misconfigured):
        absent(NAME, ZONE, [INSERTED | bad], may_be_hidden=True)


def test_lost_while_starting_is_a_preemption_and_no_want_of_capacity() -> None:
    operations = [INSERTED | PREEMPTED_AT_BIRTH]
    with pytest.raises(InstanceNotFound) as gone:
        absent(NAME, ZONE, operations, may_be_hidden=True)
    assert gone.value.fate is Fate.PREEMPTED
    left = described(found("TERMINATED"), operations)
    assert (left.fate, left.alive) == (Fate.PREEMPTED, False)


def test_the_newest_insert_counts() -> None:
    older = INSERTED | FAILED | {"insertTime": "2026-08-03T09:00:00.000-07:00"}
    assert absent(NAME, ZONE, [INSERTED, older], may_be_hidden=True).fate is Fate.STARTING


@pytest.mark.parametrize(
    ("status", "clear"),
    [
        ("RUNNING", True),
        ("STAGING", True),
        ("SUSPENDED", True),
        ("TERMINATED", False),
        ("STOPPING", False),
    ],
)
def test_operations_are_asked_for_only_where_the_status_leaves_a_question(
    status: str, clear: bool
) -> None:
    assert explains_itself({"status": status}) is clear
