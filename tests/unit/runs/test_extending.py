"""Live runs that people give more time: how much can be had, and what is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.repository_policy import Limits, RepositoryPolicy
from cynthus.spec import Resources
from tests.builders import NOON, a_run, a_spec, an_agent, an_attempt, an_offer, of_newest
from webhook_server.runs.commands import Prolong, StopWork
from webhook_server.runs.decide import decide
from webhook_server.runs.limits import effective, extended_by
from webhook_server.runs.model import Cause, Extension, Grant, Run, State
from webhook_server.runs.observations import Observations, PolicySeen
from webhook_server.runs.policy import CLOUD, within

HOUR = timedelta(hours=1)
SPEC = a_spec(resources=Resources(max_duration=HOUR))


def wish(more: timedelta = HOUR, key: str = "comment/1/0") -> Extension:
    return Extension(key=key, by="ada", at=NOON, more=more)


def running(extend: timedelta | None = 2 * HOUR, **changes: Any) -> Run:
    given: dict[str, Any] = {
        "spec": SPEC,
        "grant": Grant(extend=extend),
        "attempts": (an_attempt(started_at=NOON, max_life=timedelta(hours=5, minutes=15)),),
    }
    return a_run(State.RUNNING, **(given | changes))


def beating(run: Run, *wishes: Extension, at: timedelta = HOUR / 2) -> Observations:
    return of_newest(run, agent=an_agent(heartbeat_at=NOON + at), extensions=wishes)


def test_a_wish_moves_the_deadline_once_and_the_agent_is_told() -> None:
    run, now = running(), NOON + HOUR / 2
    decision = decide(run, beating(run, wish()), now)
    assert extended_by(decision.run) == HOUR
    assert decision.run.notices == ("ada extended it by 1h00m: it may take 2h00m now",)
    over_at = NOON + 2 * HOUR
    assert Prolong(name=run.attempts[0].instance, deadline_at=over_at) in decision.commands
    again = decide(decision.run, beating(run, wish()), now)
    assert again.run == decision.run, "the same wish counts once"
    assert any(isinstance(command, Prolong) for command in again.commands), "until it is noted"


def test_what_is_noted_is_told_to_no_agent_again() -> None:
    run = decide(running(), beating(running(), wish()), NOON + HOUR / 2).run
    seen = beating(run, wish())
    name = run.attempts[0].instance
    noted = replace(seen.of(name), deadline_at=NOON + 2 * HOUR)
    decision = decide(run, replace(seen, instances={name: noted}), NOON + HOUR / 2)
    assert not any(isinstance(command, Prolong) for command in decision.commands)


def test_the_run_is_stopped_at_its_new_deadline_and_not_before() -> None:
    run = decide(running(), beating(running(), wish()), NOON + HOUR / 2).run
    soon = NOON + HOUR + timedelta(minutes=1)
    going = decide(run, beating(run, wish(), at=soon - NOON), soon)
    assert going.run.attempts[0].stop_at is None
    late = NOON + 2 * HOUR
    stopped = decide(run, beating(run, wish(), at=late - NOON), late)
    assert any(isinstance(command, StopWork) for command in stopped.commands)
    assert stopped.run.reason.cause is Cause.MAX_DURATION
    assert "2:00:00 is over, 1:00:00 of it added while it ran" in stopped.run.reason.text


@pytest.mark.parametrize(
    ("run", "longest", "more", "got", "why"),
    [
        (running(), None, 3 * HOUR, 2 * HOUR, "may be extended by 2:00:00 in all"),
        (running(None), None, HOUR, 0 * HOUR, "may be extended by 0:00:00 in all"),
        (running(), 1.5 * HOUR, HOUR, HOUR / 2, "CYNTHUS_MAX_DURATION"),
        (
            running(attempts=(an_attempt(started_at=NOON, max_life=HOUR * 1.5),)),
            None,
            HOUR,
            timedelta(minutes=26, seconds=30),
            "its instance ends by itself at 13:30:00 UTC",
        ),
    ],
)
def test_what_cannot_be_had_is_told_with_its_reason(
    run: Run, longest: timedelta | None, more: timedelta, got: timedelta, why: str
) -> None:
    policy = CLOUD if longest is None else within(CLOUD, longest)
    after = decide(run, beating(run, wish(more)), NOON + HOUR / 2, policy).run
    assert extended_by(after) == got
    assert why in after.notices[-1]


def test_all_wishes_together_stay_within_the_room() -> None:
    run = running()
    wishes = [wish(1.5 * HOUR, f"comment/{number}/0") for number in range(3)]
    after = decide(run, beating(run, *wishes), NOON + HOUR / 2).run
    assert [extension.more for extension in after.extensions] == [1.5 * HOUR, HOUR / 2, 0 * HOUR]


def test_a_run_that_is_being_stopped_is_given_nothing() -> None:
    run, late = running(), NOON + HOUR
    stopping = decide(run, beating(run, at=HOUR), late).run
    after = decide(stopping, beating(stopping, wish(), at=HOUR), late + timedelta(seconds=1)).run
    assert after.extensions == ()


def test_an_order_has_room_for_what_may_be_added_and_is_paid_for_with_it() -> None:
    queued = a_run(State.QUEUED, spec=SPEC)
    seen = Observations(offers=(an_offer(),))
    plain = decide(queued, seen, NOON)
    policy = RepositoryPolicy(limits=Limits(extend=2 * HOUR))
    roomy = decide(queued, replace(seen, policy=PolicySeen(policy=policy, read_at=NOON)), NOON)
    longer = roomy.run.attempts[0].max_life - plain.run.attempts[0].max_life
    assert longer == 2 * HOUR
    assert plain.commitment_usd is not None
    assert roomy.commitment_usd == plain.commitment_usd + 2 * Decimal("3.60")


def test_beside_a_max_cost_two_hours_are_free_and_nothing_more_is_reserved_than_that() -> None:
    spec = a_spec(resources=Resources(max_duration=HOUR, max_cost_usd=Decimal(5)))
    seen = Observations(
        offers=(an_offer(),), policy=PolicySeen(policy=RepositoryPolicy(), read_at=NOON)
    )
    decision = decide(a_run(State.QUEUED, spec=spec), seen, NOON)
    assert decision.run.grant.extend == 2 * HOUR
    assert decision.commitment_usd is not None
    assert decision.commitment_usd <= Decimal(5)


def test_a_wish_while_the_run_waits_counts_for_its_order() -> None:
    queued = a_run(State.QUEUED, spec=SPEC, grant=Grant(extend=2 * HOUR))
    run = decide(queued, Observations(offers=(an_offer(),), extensions=(wish(),)), NOON).run
    assert run.state is State.PROVISIONING
    assert effective(run, SPEC, CLOUD).resources.max_duration == 2 * HOUR
    assert run.attempts[0].max_life == timedelta(hours=3 + 2, minutes=15)
