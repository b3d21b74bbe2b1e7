"""What a repository's policy refuses, lowers and holds; and what an approval is for."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynthus.repository_policy import (
    Allowance,
    ApprovalLine,
    ForkLimits,
    Limits,
    RepositoryPolicy,
    Role,
    Verb,
)
from cynthus.spec import GpuNeed, Resources, Spec
from tests.builders import IMAGE, NOON, a_key, a_run, a_spec
from webhook_server.intents import Person
from webhook_server.runs.approval import (
    approve,
    approve_commit,
    approver,
    bound,
    covers,
    effective_digest,
    grant_of,
    granted,
    hold_for,
    lowered,
    refusal,
)
from webhook_server.runs.model import Approval, Hold, Origin, Run, SpecFault, State
from webhook_server.runs.observations import PolicySeen

ADA = Person(id=5, login="ada", bot=False)
HOURS = timedelta(hours=1)


def seen(**limits: Any) -> PolicySeen:
    return PolicySeen(policy=RepositoryPolicy(limits=Limits(**limits)), read_at=NOON)


def needing(**need: Any) -> Spec:
    return a_spec(resources=Resources(**need))


def held(**changes: Any) -> Run:
    hold = Hold(reasons=("it is dear",), cap_usd=Decimal(12), who="maintain or admin")
    return a_run(State.QUEUED, **({"hold": hold} | changes))


def approved(run: Run) -> Approval:
    found = approve(run, ADA, NOON)
    assert isinstance(found, Approval)
    return found


# ── refused and lowered ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("need", "limits", "found"),
    [
        ({"gpu": (GpuNeed("h100", 8),)}, {"gpus": (("l4", 1), ("a100", 2))}, "(l4, a100:2), found h100:8"),  # noqa: E501
        ({"gpu": (GpuNeed("l4", 2),)}, {"gpus": (("l4", 1),)}, "(l4), found l4:2"),
        ({"gpu": (GpuNeed("l4"), GpuNeed("t4"))}, {"gpus": (("l4", 1),)}, "(l4), found t4"),
        ({"gpu": (GpuNeed("l4"),)}, {"gpus": ()}, "(none), found l4"),
        ({"nodes": 3}, {"nodes": 2}, "(at most 2), found 3"),
        ({}, {"providers": ("gcp",)}, "(gcp), found local"),
    ],
)  # fmt: skip
def test_what_lies_beyond_a_hard_line_is_refused_with_both_ends_named(
    need: dict[str, Any], limits: dict[str, Any], found: str
) -> None:
    text = refusal(needing(**need), seen(**limits), provider="local")
    assert text is not None
    assert found in text
    assert ".github/cynthus-policy.yml of the default branch" in text


def test_what_lies_within_every_line_is_not_refused() -> None:
    limits = {"providers": ("local",), "gpus": (("l4", 2),), "nodes": 2}
    spec = needing(gpu=(GpuNeed("l4", 2),), nodes=2)
    assert refusal(spec, seen(**limits), provider="local") is None
    assert refusal(needing(), seen(gpus=()), provider="local") is None, "no GPU is asked for"


def test_a_policy_with_faults_refuses_everything_and_names_them() -> None:
    fault = SpecFault(line=3, column=5, text="limits: should be a group")
    faulty = replace(seen(), faults=(fault,))
    text = refusal(a_spec(), faulty, provider="local")
    assert text is not None
    assert ".github/cynthus-policy.yml:3:5: limits: should be a group" in text


@pytest.mark.case("S4")
def test_amounts_are_lowered_to_their_lines_and_never_raised() -> None:
    spec = replace(needing(max_cost_usd=Decimal(9), max_duration=8 * HOURS), keep_warm=HOURS)
    policy = RepositoryPolicy(
        limits=Limits(max_cost_usd=Decimal(5), max_duration=4 * HOURS, keep_warm=HOURS / 2)
    )
    grant = grant_of(spec, policy, fork=False)
    less = granted(spec, grant)
    assert (less.resources.max_cost_usd, less.resources.max_duration) == (Decimal(5), 4 * HOURS)
    assert less.keep_warm == HOURS / 2
    assert [text.partition(":")[0] for text in lowered(grant, fork=False)] == [
        "resources/max_cost",
        "resources/max_duration",
        "keep_warm",
    ]
    modest = needing(max_cost_usd=Decimal(1), max_duration=HOURS)
    assert granted(modest, grant_of(modest, policy, fork=False)) == modest


def test_a_limit_of_cost_holds_for_a_spec_that_names_none() -> None:
    grant = grant_of(
        needing(), RepositoryPolicy(limits=Limits(max_cost_usd=Decimal(5))), fork=False
    )
    assert grant.max_cost_usd == Decimal(5)


def test_a_fork_gets_the_lesser_of_both_limits_and_keeps_nothing() -> None:
    policy = RepositoryPolicy(
        limits=Limits(max_cost_usd=Decimal(1), extend=HOURS),
        forks=ForkLimits(max_cost_usd=Decimal(2), max_duration=HOURS / 2),
    )
    spec = replace(needing(), keep_warm=HOURS)
    less = granted(spec, grant_of(spec, policy, fork=True))
    assert (less.resources.max_cost_usd, less.resources.max_duration) == (Decimal(1), HOURS / 2)
    assert less.keep_warm == timedelta(0)
    assert grant_of(spec, policy, fork=True).extend == timedelta(0)


@pytest.mark.parametrize(
    ("need", "limits", "room"),
    [
        ({}, {}, 0),
        ({"max_cost_usd": Decimal(5)}, {}, 2),
        ({}, {"extend": 5 * HOURS}, 5),
        ({"max_cost_usd": Decimal(5)}, {"extend": timedelta(0)}, 0),
        ({"max_cost_usd": Decimal(5), "max_duration": 3 * HOURS}, {"max_duration": 4 * HOURS}, 1),
        ({"max_duration": 3 * HOURS}, {"max_duration": 4 * HOURS, "extend": 3 * HOURS}, 3),
    ],
)
def test_room_to_extend_never_passes_a_line_that_is_silent_about_it(
    need: dict[str, Any], limits: dict[str, Any], room: int
) -> None:
    policy = RepositoryPolicy(limits=Limits(**limits))
    assert grant_of(needing(**need), policy, fork=False).extend == room * HOURS


def test_nobody_extends_a_run_past_the_line_that_would_have_held_it() -> None:
    line = ApprovalLine(duration=4 * HOURS)
    policy = RepositoryPolicy(limits=Limits(extend=5 * HOURS), approval=line)
    assert grant_of(needing(max_duration=3 * HOURS), policy, fork=False).extend == HOURS


# ── held ────────────────────────────────────────────────────────────────────────────────────────

LINES = RepositoryPolicy(
    approval=ApprovalLine(
        cost_usd=Decimal(10),
        duration=4 * HOURS,
        gpus=("h100",),
        by=Allowance(role=Role.MAINTAIN, people=("ada", "bob")),
    )
)


@pytest.mark.parametrize(
    ("need", "usd", "reasons"),
    [
        ({"max_duration": HOURS}, "10", 0),
        ({"max_duration": HOURS}, "10.000001", 1),
        ({"max_duration": 4 * HOURS}, "1", 0),
        ({"max_duration": 5 * HOURS}, "1", 1),
        ({"max_duration": HOURS, "gpu": (GpuNeed("l4"), GpuNeed("h100"))}, "1", 1),
        ({"max_duration": 5 * HOURS, "gpu": (GpuNeed("h100"),)}, "99", 3),
    ],
)
def test_a_run_is_held_for_each_line_that_it_crosses(
    need: dict[str, Any], usd: str, reasons: int
) -> None:
    hold = hold_for(a_run(State.QUEUED), needing(**need), LINES, Decimal(usd))
    assert len(hold.reasons if hold else ()) == reasons
    if hold is not None:
        assert hold.who == "maintain or admin; or ada, bob"
        assert hold.cap_usd >= Decimal(usd), "the cap is what people are shown, rounded up"


def test_a_fork_s_commit_always_waits_for_those_who_may_approve() -> None:
    run = a_run(State.QUEUED, origin=Origin(fork=True))
    hold = hold_for(run, needing(), RepositoryPolicy(), Decimal(1))
    assert hold is not None
    assert hold.who == "write, maintain or admin"


def test_the_approver_of_a_crossed_line_is_whom_it_names() -> None:
    assert approver(held(spec=needing(max_duration=HOURS)), LINES).people == ("ada", "bob")
    cheap = held(spec=needing(max_duration=HOURS), origin=Origin(fork=True))
    cheap = replace(cheap, hold=replace(cheap.hold, cap_usd=Decimal(1)))  # type: ignore[type-var]
    assert approver(cheap, LINES) == LINES.allowance(Verb.APPROVE)


# ── the yes ─────────────────────────────────────────────────────────────────────────────────────


def test_an_approval_is_for_what_was_held_and_for_its_price() -> None:
    run = held()
    yes = approved(run)
    assert (yes.by, yes.by_id, yes.at, yes.image) == ("ada", 5, NOON, IMAGE)
    assert covers(yes, run, Decimal(12))
    assert not covers(yes, run, Decimal("12.000001")), "a higher price needs another yes"


@pytest.mark.case("S4")
@pytest.mark.parametrize(
    "changes",
    [
        {"key": a_key(commit_sha="c" * 40)},
        {"image": "registry.test/digits@sha256:" + "b" * 64},
        {"image": None},
        {"spec": needing(max_duration=HOURS)},
        {"spec": a_spec(env=(("LR", "0.1"),))},
        {"spec": None},
    ],
)
def test_any_other_commit_spec_override_or_image_voids_an_approval(changes: dict[str, Any]) -> None:
    assert not covers(approved(held()), replace(held(), **changes), Decimal(1))


_OTHER: dict[str, Any] = {
    "version": 2,
    "run": ("python", "train.py"),
    "resources": Resources(nodes=2),
    "env": (("A", "1"),),
    "keep_warm": HOURS,
}


@given(st.sampled_from(sorted(_OTHER)), st.decimals(0, 12, places=2))
def test_every_field_of_the_spec_counts(name: str, usd: Decimal) -> None:
    run = held()
    other = replace(a_spec(), **{name: _OTHER[name]})
    assert effective_digest(other) != effective_digest(a_spec())
    assert covers(approved(run), run, usd)
    assert not covers(approved(run), replace(run, spec=other), usd)


def test_no_field_of_the_resources_is_left_out_of_the_digest() -> None:
    other: dict[str, Any] = {
        "gpu": (GpuNeed("l4"),), "cpu": 3, "memory_bytes": 5, "disk_bytes": 6, "nodes": 2,
        "spot": "always", "provider": "gcp", "places": ("eu",), "max_duration": HOURS,
        "max_cost_usd": Decimal(1),
    }  # fmt: skip
    assert set(other) == {field.name for field in fields(Resources)}
    digests = {effective_digest(needing(**{name: value})) for name, value in other.items()}
    assert len(digests | {effective_digest(needing())}) == len(other) + 1


def test_an_approval_before_the_image_is_bound_to_the_first_that_arrives() -> None:
    policy = RepositoryPolicy()
    spec = needing()
    grant = grant_of(spec, policy, fork=True)
    yes = approve_commit("b" * 40, spec, grant, ADA, NOON)
    assert isinstance(yes, Approval)
    assert (yes.image, yes.cap_usd) == (None, policy.forks.max_cost_usd)
    run = a_run(State.QUEUED, spec=spec, origin=Origin(fork=True))
    assert covers(yes, run, Decimal(2))
    first = bound(yes, IMAGE)
    assert first is not None
    assert covers(first, run, Decimal(2))
    assert not covers(first, replace(run, image="other@sha256:" + "b" * 64), Decimal(2))
    assert bound(first, "another") == first


def test_nothing_can_be_approved_before_its_price_is_known() -> None:
    spec = needing()
    grant = grant_of(spec, RepositoryPolicy(), fork=False)
    text = approve_commit("b" * 40, spec, grant, ADA, NOON)
    assert isinstance(text, str)
    assert text.startswith("resources/max_cost: should be set")


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (a_run(State.QUEUED), "waits for nobody's approval"),
        (a_run(State.FINISHED), "has ended"),
        (a_run(approval=approved(held())), "approved by ada already"),
    ],
)
def test_what_is_not_held_cannot_be_approved(run: Run, found: str) -> None:
    text = approve(run, ADA, NOON)
    assert isinstance(text, str)
    assert found in text
