"""What a server cannot do is refused or noted, never ignored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cynthus.spec import Checkpoint, DataSource, Resources, Spot
from tests.builders import NOON, a_run, a_spec, an_offer
from webhook_server.runs.decide import decide
from webhook_server.runs.honour import Powers, notices, refusal
from webhook_server.runs.model import Cause, Outcome, State
from webhook_server.runs.observations import Observations
from webhook_server.runs.policy import CLOUD, LOCAL, policy_of

ALL = Powers(
    data=True, gangs=True, checkpoints=True, spot=True, places=True, keep_warm=True, labels=True
)
DATA = tuple(
    DataSource(name=f"d{n}", source="hf://datasets/a/b", mount=f"/data/d{n}") for n in range(7)
)


@pytest.mark.parametrize(
    ("changes", "power", "told"),
    [
        ({"data": DATA[:1]}, "data", "data: should be absent"),
        ({"data": DATA}, "data", "found d0, d1, d2, d3, d4 and 2 more."),
        ({"resources": Resources(nodes=3)}, "gangs", "resources/nodes: should be 1"),
    ],
)
def test_what_changes_the_result_is_refused(changes: dict[str, Any], power: str, told: str) -> None:
    text = refusal(a_spec(**changes), Powers())
    assert text is not None
    assert told in text
    assert text.endswith(".")
    assert refusal(a_spec(**changes), Powers(**{power: True})) is None


def test_all_that_is_refused_is_told_together() -> None:
    text = refusal(a_spec(data=DATA[:1], resources=Resources(nodes=2)), Powers())
    assert text is not None
    assert [line.partition(":")[0] for line in text.splitlines()] == ["data", "resources/nodes"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"checkpoint": Checkpoint("ckpt")}, "checkpoint: this server does not save ckpt yet"),
        ({"keep_warm": timedelta(minutes=10)}, "keep_warm: has no effect"),
        ({"labels": (("team", "a"),)}, "labels: has no effect"),
        ({"resources": Resources(spot=Spot.ALWAYS)}, "resources/spot: has no effect"),
        ({"resources": Resources(spot=Spot.PREFER)}, "resources/spot: has no effect"),
        (
            {"resources": Resources(places=("here",)), "labels": (("a", "b"),)},
            "resources/places, labels: have no effect",
        ),
    ],
)
def test_what_does_not_change_the_result_is_noted(changes: dict[str, Any], told: str) -> None:
    [notice] = notices(a_spec(**changes), Powers())
    assert told in notice
    assert notices(a_spec(**changes), ALL) == ()


def test_a_server_that_allows_less_time_says_so() -> None:
    [notice] = notices(a_spec(), Powers(longest=timedelta(hours=1)))
    assert notice.startswith("resources/max_duration: this server allows 1:00:00 at most")
    assert notices(a_spec(), Powers(longest=timedelta(hours=24))) == ()


@pytest.mark.parametrize("policy", [CLOUD, LOCAL])
def test_a_plain_spec_is_neither_refused_nor_noted(policy: Any) -> None:
    assert refusal(a_spec(), policy.powers) is None
    assert notices(a_spec(), policy.powers) == ()


@pytest.mark.parametrize("state", [State.BUILDING, State.QUEUED])
def test_a_run_that_cannot_be_honoured_ends_before_anything_is_lent(state: State) -> None:
    run = a_run(state, spec=a_spec(resources=Resources(nodes=2)))
    alone = replace(LOCAL, powers=Powers())
    decision = decide(run, Observations(offers=(an_offer(),)), NOON, alone)
    assert (decision.run.state, decision.run.outcome) == (State.FINISHED, Outcome.FAILED)
    assert decision.run.reason.cause is Cause.REFUSED
    assert decision.commands == ()


def test_a_provider_that_is_not_there_ends_a_run_before_its_image_is_built() -> None:
    seen = Observations(offers_refusal="resources/provider: should be one that is there")
    decision = decide(a_run(State.BUILDING), seen, NOON)
    assert (decision.run.state, decision.run.reason.cause) == (State.FINISHED, Cause.REFUSED)


def test_notices_are_told_once() -> None:
    run = a_run(State.BUILDING, spec=a_spec(labels=(("team", "a"),)))
    once = decide(run, Observations(), NOON, LOCAL).run
    assert len(once.notices) == 1
    assert decide(once, Observations(), NOON, LOCAL).run.notices == once.notices


def test_on_this_machine_an_order_to_stop_is_heard_within_a_second() -> None:
    assert policy_of("local").heartbeat == timedelta(seconds=1)
    assert policy_of("gcp").heartbeat == timedelta(seconds=10)
