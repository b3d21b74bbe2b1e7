"""Queued runs under a repository's policy: refused, lowered, held, approved, taking turns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.repository_policy import ApprovalLine, Limits, RepositoryPolicy
from cynthus.spec import Resources
from tests.builders import (
    IMAGE,
    NOON,
    a_lost,
    a_run,
    a_spec,
    an_offer,
)
from webhook_server.intents import Person
from webhook_server.runs.approval import approve
from webhook_server.runs.commands import CreateInstance, Decision
from webhook_server.runs.decide import decide
from webhook_server.runs.model import Approval, Cause, Origin, Outcome, Run, SpecFault, State
from webhook_server.runs.observations import CancelWish, ImageArrived, Observations, PolicySeen

ADA = Person(id=5, login="ada", bot=False)
HOUR = timedelta(hours=1)
#: One hour on $3.60 an hour: with boot, upload and margins it may come to $12.
SPEC = a_spec(resources=Resources(max_duration=HOUR))
ASKS = RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal(10)))


def queued(**changes: Any) -> Run:
    return a_run(State.QUEUED, **({"spec": SPEC} | changes))


def seen(policy: RepositoryPolicy = ASKS, **changes: Any) -> Observations:
    given: dict[str, Any] = {
        "policy": PolicySeen(policy=policy, read_at=NOON),
        "offers": (an_offer(),),
        "provider": "fake",
    }
    return Observations(**(given | changes))


def ordered(decision: Decision) -> bool:
    return any(isinstance(command, CreateInstance) for command in decision.commands)


def a_held() -> Run:
    return decide(queued(), seen(), NOON).run


def yes(run: Run) -> Approval:
    found = approve(run, ADA, NOON)
    assert isinstance(found, Approval)
    return found


# ── refused, lowered ────────────────────────────────────────────────────────────────────────────


def test_a_faulty_policy_ends_what_would_cost() -> None:
    faulty = PolicySeen(
        policy=RepositoryPolicy(), read_at=NOON, faults=(SpecFault(line=2, column=1, text="no"),)
    )
    run = decide(queued(), replace(seen(), policy=faulty), NOON).run
    assert (run.state, run.outcome) == (State.FINISHED, Outcome.FAILED)
    assert run.reason.cause is Cause.POLICY


def test_a_policy_that_cannot_be_read_is_waited_for_and_not_guessed() -> None:
    decision = decide(queued(), replace(seen(), policy=None, policy_detail="GitHub is away"), NOON)
    assert decision.run.state is State.QUEUED
    assert decision.run.reason.text == "GitHub is away"
    assert not ordered(decision)


@pytest.mark.case("S4")
def test_what_the_policy_lowers_holds_and_is_told() -> None:
    policy = RepositoryPolicy(limits=Limits(max_duration=HOUR / 2, max_cost_usd=Decimal(3)))
    run = decide(queued(), seen(policy), NOON).run
    assert run.state is State.PROVISIONING
    assert run.grant.max_duration == HOUR / 2
    assert run.attempts[0].max_life <= HOUR * 3 / 3.6
    assert len(run.notices) == 2


def test_a_turn_is_waited_for_while_others_have_instances() -> None:
    policy = RepositoryPolicy(limits=Limits(live_runs=2))
    waiting = decide(queued(), seen(policy, live_runs=2), NOON)
    assert not ordered(waiting)
    assert "2 runs of this repository have instances" in waiting.run.reason.text
    going = decide(queued(), seen(policy, live_runs=1), NOON)
    assert ordered(going)
    assert going.live_limit == 2, "the save looks again, after all other saves"


# ── held ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_over_the_line_waits_for_a_person_and_asks_nobody_meanwhile() -> None:
    decision = decide(queued(), seen(), NOON)
    run = decision.run
    assert not ordered(decision)
    assert run.state is State.QUEUED
    assert run.hold is not None
    assert run.reason.cause is Cause.APPROVAL
    assert "maintain or admin may approve it" in run.reason.text
    assert decision.look_again_at == NOON + HOUR
    assert decision.commitment_usd == 0, "it costs nothing and reserves nothing"


def test_an_approved_run_is_ordered_and_never_costs_more_than_was_approved() -> None:
    held = a_held()
    assert held.hold is not None
    decision = decide(held, seen(approval=yes(held)), NOON + HOUR)
    assert ordered(decision)
    assert decision.run.hold is None
    assert decision.run.approval == yes(held), "the proof stays with the run"
    assert decision.commitment_usd is not None
    assert decision.commitment_usd <= held.hold.cap_usd


def test_a_higher_price_than_approved_holds_the_run_again() -> None:
    held = a_held()
    dear = seen(approval=yes(held), offers=(an_offer(usd_per_hour=Decimal("7.20")),))
    decision = decide(held, dear, NOON)
    assert not ordered(decision)
    again = decision.run
    assert again.hold is not None
    assert held.hold is not None
    assert again.hold.cap_usd > held.hold.cap_usd
    assert any("was approved for" in reason for reason in again.hold.reasons)
    assert ordered(decide(again, replace(dear, approval=yes(again)), NOON))


def test_a_yes_to_another_image_lets_nothing_start() -> None:
    held = a_held()
    other = replace(yes(held), image="another@sha256:" + "0" * 64)
    decision = decide(held, seen(approval=other), NOON)
    assert not ordered(decision)
    assert decision.run.hold is not None


def test_a_run_that_became_cheap_or_that_the_policy_lets_go_needs_nobody() -> None:
    held = a_held()
    assert ordered(decide(held, seen(offers=(an_offer(usd_per_hour=Decimal("0.10")),)), NOON))
    assert ordered(decide(held, seen(RepositoryPolicy()), NOON))


def test_what_needs_no_approval_is_taken_before_what_does() -> None:
    cheap = an_offer(place="there", usd_per_hour=Decimal("0.10"))
    run = decide(queued(), seen(offers=(an_offer(), cheap)), NOON).run
    assert run.attempts[0].offer == cheap


def test_one_yes_is_for_the_same_machine_in_all_places() -> None:
    near, far = an_offer(), an_offer(place="far", usd_per_hour=Decimal("4.20"))
    held = decide(queued(), seen(offers=(near, far)), NOON).run
    given = yes(held)
    assert ordered(decide(held, seen(approval=given, offers=(far,)), NOON))


def test_a_replacement_of_a_lost_attempt_needs_no_second_yes() -> None:
    held = a_held()
    first = decide(held, seen(approval=yes(held)), NOON).run.attempts[0]
    lost_at = NOON + HOUR / 2
    lost = a_lost(1, offer=first.offer, ended_at=lost_at, gone_at=lost_at, started_at=NOON)
    again = queued(attempts=(lost,), approval=yes(held), state_since=lost_at)
    decision = decide(again, seen(), lost_at)
    assert ordered(decision)
    assert decision.commitment_usd is not None
    assert held.hold is not None
    assert decision.commitment_usd <= held.hold.cap_usd, "all attempts together"


def test_a_hold_outlives_a_time_without_offers_and_the_yes_begins_the_wait_for_one() -> None:
    held = a_held()
    later = NOON + timedelta(days=2)  # longer than any run waits for an instance
    still = decide(held, seen(offers=()), later)
    assert still.run.hold == held.hold
    assert still.run.state is State.QUEUED
    going = decide(held, seen(offers=(), approval=yes(held)), later)
    assert going.run.state is State.QUEUED
    assert (going.run.hold, going.run.state_since) == (None, later)


@pytest.mark.case("G9")
def test_a_run_that_nobody_approves_ends_after_a_week() -> None:
    held = a_held()
    assert decide(held, seen(), NOON + timedelta(days=6, hours=23)).run.hold is not None
    run = decide(held, seen(), NOON + timedelta(days=7)).run
    assert (run.state, run.reason.cause, run.hold) == (State.FINISHED, Cause.APPROVAL, None)
    assert "nobody approved it" in run.reason.text


def test_a_held_run_can_be_cancelled() -> None:
    run = decide(a_held(), seen(cancel=CancelWish(by="ada", at=NOON)), NOON).run
    assert (run.state, run.outcome, run.hold) == (State.FINISHED, Outcome.CANCELLED, None)


def test_a_fork_s_run_never_starts_without_an_approval() -> None:
    fork = queued(origin=Origin(fork=True), spec=a_spec())
    for policy in (seen(RepositoryPolicy()), replace(seen(), policy=None)):
        decision = decide(fork, policy, NOON)
        assert not ordered(decision)
        assert decision.run.hold is not None


def test_a_fork_s_approval_is_bound_to_the_first_image() -> None:
    early = replace(yes(a_held()), image=None)
    building = replace(queued(approval=early), state=State.BUILDING, image=None)
    arrived = Observations(image=ImageArrived(image=IMAGE, failure=None))
    run = decide(building, arrived, NOON).run
    assert run.approval == replace(early, image=IMAGE)
