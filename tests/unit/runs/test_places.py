"""Which offer is tried next, and until when none is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cynthus.spec import Retry
from tests.builders import (
    NOON,
    a_lost,
    a_refused,
    a_run,
    a_spec,
    an_attempt,
    an_offer,
    of_newest,
    refused,
    seconds,
)
from webhook_server.runs.commands import CreateInstance, Decision
from webhook_server.runs.decide import decide
from webhook_server.runs.lending import CoolDown, Denial, Offer, Refusal, Scope
from webhook_server.runs.model import Attempt, Cause, Outcome, Reason, State
from webhook_server.runs.observations import Observations
from webhook_server.runs.places import cooled_place, pick, region_of


def spot(place: str) -> Offer:
    return an_offer(place=place, spot=True)


def sure(place: str) -> Offer:
    return an_offer(place=place)


def cooling(offer: Offer, for_: float = 60, **changes: Any) -> CoolDown:
    given: dict[str, Any] = {
        "provider": offer.provider,
        "place": offer.place,
        "machine": offer.machine,
        "spot": offer.spot,
        "until": NOON + seconds(for_),
    }
    return CoolDown(**(given | changes))


def taken(number: int, offer: Offer) -> Attempt:
    return a_lost(number, offer=offer, reason=Reason(cause=Cause.PREEMPTED, text="taken back"))


A, B = "us-central1-a", "us-central1-b"
ALL = (spot(A), spot(B), sure(A), sure(B))


@pytest.mark.parametrize(
    ("attempts", "chosen"),
    [
        ((), spot(A)),
        ((taken(1, spot(A)),), spot(B)),
        ((taken(1, spot(A)), taken(2, spot(B))), sure(A)),
        ((taken(1, spot(A)), a_lost(2, offer=spot(B))), spot(B)),
    ],
)
def test_a_preempted_run_tries_the_next_place_then_what_stays(
    attempts: tuple[Attempt, ...], chosen: Offer
) -> None:
    assert pick(a_run(State.QUEUED, attempts=attempts), ALL, ()) == chosen


def test_where_only_spot_is_allowed_the_place_longest_ago_is_next() -> None:
    run = a_run(State.QUEUED, attempts=(taken(1, spot(A)), taken(2, spot(B))))
    assert pick(run, (spot(A), spot(B)), ()) == spot(A)


def test_with_one_place_a_preempted_run_goes_on_demand_there() -> None:
    assert pick(a_run(attempts=(taken(1, spot(A)),)), (spot(A), sure(A)), ()) == sure(A)


def test_a_place_that_cools_down_is_left_out_for_that_kind_of_machine_only() -> None:
    run = a_run(State.QUEUED)
    assert pick(run, ALL, (cooling(spot(A)),)) == spot(B)
    assert pick(run, ALL, (cooling(spot(A)), cooling(spot(B)))) == sure(A)
    assert pick(run, ALL, (cooling(spot(A), machine="other"),)) == spot(A)
    assert pick(run, ALL, (cooling(spot(A), provider="other"),)) == spot(A)
    region = cooling(spot(A), place="us-central1")
    assert pick(run, ALL, (region,)) == sure(A)
    everywhere = [cooling(offer, place="*") for offer in (spot(A), sure(A))]
    assert pick(run, ALL, everywhere) is None


def test_the_zone_that_a_refusal_names_is_tried_first() -> None:
    told = Refusal(denial=Denial.NO_CAPACITY, text="none", elsewhere=("us-central1-f",))
    run = a_run(State.QUEUED, attempts=(a_refused(1, offer=sure(A), refusal=told),))
    offers = (sure(A), sure(B), sure("us-central1-f"))
    assert pick(run, offers, (cooling(sure(A)),)) == offers[2]
    assert pick(run, (*offers[:2], an_offer(place="us-central1-f", machine="big")), ()) == sure(A)


@pytest.mark.parametrize(
    ("place", "region"),
    [(A, "us-central1"), ("this machine", "this machine"), ("node-12", "node-12"), ("a", "a")],
)
def test_a_zone_is_in_its_region(place: str, region: str) -> None:
    assert region_of(place) == region


@pytest.mark.parametrize(
    ("scope", "place"),
    [(Scope.ZONE, A), (Scope.REGION, "us-central1"), (Scope.EVERYWHERE, "*")],
)
def test_a_refusal_closes_the_place_that_it_reaches(scope: Scope, place: str) -> None:
    refusal = Refusal(denial=Denial.NO_CAPACITY, text="none", scope=scope)
    assert cooled_place(sure(A), refusal) == place


# ── as decided ──────────────────────────────────────────────────────────────────────────────────


def look(run: Any, at: timedelta = timedelta(0), **seen: Any) -> Decision:
    return decide(run, Observations(**seen), NOON + at)


def test_with_every_place_cooling_the_run_waits_for_the_first_and_says_where_it_tried() -> None:
    closed = (cooling(sure(A), 90), cooling(sure(B), 30))
    decision = look(a_run(State.QUEUED), offers=(sure(A), sure(B)), cooling=closed)
    assert decision.commands == ()
    assert decision.look_again_at == decision.run.not_before == NOON + seconds(30)
    assert decision.run.reason == Reason(
        cause=Cause.NO_CAPACITY,
        text=f"no capacity in {A}, {B}; the next try is at 12:00:30 UTC",
    )
    waiting = look(decision.run, seconds(29))
    assert (waiting.commands, waiting.look_again_at) == ((), NOON + seconds(30))
    [command] = look(decision.run, seconds(30), offers=(sure(B),)).commands
    assert isinstance(command, CreateInstance)


def test_many_places_are_counted_and_not_all_listed() -> None:
    offers = tuple(sure(f"region{n}-a") for n in range(11))
    decision = look(a_run(State.QUEUED), offers=offers, cooling=tuple(map(cooling, offers)))
    assert "region7-a and 3 more; " in decision.run.reason.text


def test_quota_that_closes_every_place_fails_a_run_that_has_met_it() -> None:
    text = "quota NVIDIA_L4_GPUS in us-central1 is 0"
    quota = Refusal(denial=Denial.QUOTA, text=text, scope=Scope.REGION)
    closed = (cooling(sure(A), place="us-central1", denial=Denial.QUOTA, text=text),)
    met = a_run(State.QUEUED, attempts=(a_refused(1, offer=sure(A), refusal=quota),))
    decision = look(met, offers=(sure(A), sure(B)), cooling=closed)
    assert (decision.run.state, decision.run.outcome) == (State.FINISHED, Outcome.FAILED)
    assert decision.run.reason == Reason(cause=Cause.REFUSED, text=text)
    # Another run's word is old news: what it used may be free again.
    heard = look(a_run(State.QUEUED), offers=(sure(A), sure(B)), cooling=closed)
    assert heard.run.state is State.QUEUED
    mixed = look(met, offers=(sure(A), sure("europe-west4-a")), cooling=closed)
    assert mixed.run.state is State.PROVISIONING


def test_a_run_that_no_place_takes_for_half_an_hour_uses_its_attempts_up() -> None:
    first = a_refused(1, offer=sure(A))
    late = an_attempt(2, ordered_at=NOON + timedelta(minutes=31))
    run = a_run(State.PROVISIONING, spec=a_spec(retry=Retry(1)), attempts=(first, late))
    refusal = Refusal(denial=Denial.NO_CAPACITY, text="none in b")
    seen = of_newest(
        run, create=refused(refusal.denial, refusal.text, at=NOON + timedelta(minutes=31))
    )
    decision = decide(run, seen, NOON + timedelta(minutes=31))
    assert (decision.run.outcome, decision.run.reason.text) == (
        Outcome.INFRASTRUCTURE,
        "none in b",
    )
