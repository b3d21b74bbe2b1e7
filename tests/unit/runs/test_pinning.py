"""A run stands on data that does not change, or it ends before anything is paid for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cynthus.spec import DataSource, Resources
from cynthus.wire_data import Dataset
from tests.builders import IMAGE, NOON, a_run, a_spec, an_attempt, an_offer, seconds
from webhook_server.runs import forks, pinning
from webhook_server.runs.commands import CreateInstance, Decision
from webhook_server.runs.decide import decide
from webhook_server.runs.model import Cause, Origin, Outcome, Run, State
from webhook_server.runs.observations import CancelWish, DataSeen, ImageArrived, Observations
from webhook_server.runs.work import Limits, work_for

COMMIT = "5" * 40
GB = 10**9
TRAIN = DataSource(name="train", source="hf://datasets/acme/demo@main", mount="/data/train")
WINE = DataSource(name="wine", source="kaggle://datasets/z/wine", mount="/data/wine", unpack=True)
PINNED = (pinning.bind(TRAIN, COMMIT, size_bytes=2 * GB, files=3),)


def needing(state: State = State.QUEUED, *entries: DataSource, **changes: Any) -> Run:
    return a_run(state, spec=a_spec(data=entries or (TRAIN,), **changes))


def look(run: Run, data: DataSeen | None, at: timedelta = timedelta(0), **seen: Any) -> Decision:
    given = {"offers": (an_offer(),)} if run.state is State.QUEUED else {}
    return decide(run, Observations(data=data, **(given | seen)), NOON + at)


# ── the run ─────────────────────────────────────────────────────────────────────────────────────


def test_data_is_pinned_while_the_image_is_built() -> None:
    decision = look(needing(State.BUILDING), DataSeen(datasets=PINNED))
    assert (decision.run.state, decision.run.datasets) == (State.BUILDING, PINNED)


def test_data_is_pinned_in_the_decision_that_orders() -> None:
    decision = look(needing(), DataSeen(datasets=PINNED))
    assert decision.run.datasets == PINNED
    assert [type(command) for command in decision.commands] == [CreateInstance]


@pytest.mark.parametrize("data", [None, DataSeen(detail="the hub is away")])
def test_nothing_is_ordered_before_all_data_is_pinned(data: DataSeen | None) -> None:
    decision = look(needing(), data)
    assert (decision.run.state, decision.commands) == (State.QUEUED, ())
    assert decision.run.reason.cause is Cause.DATA
    assert decision.look_again_at == NOON + seconds(1)


def test_a_hub_that_stays_away_is_asked_ever_more_slowly_and_given_up_after_a_day() -> None:
    away = DataSeen(detail="the hub is away")
    assert look(needing(), away, seconds(20)).look_again_at == NOON + seconds(40)
    assert look(needing(), away, seconds(600)).look_again_at == NOON + seconds(660)
    late = look(needing(), away, timedelta(days=1))
    assert (late.run.outcome, late.run.reason.cause) == (Outcome.INFRASTRUCTURE, Cause.DATA)
    assert "the hub is away" in late.run.reason.text


def test_a_build_goes_on_while_the_hub_is_away() -> None:
    arrived = ImageArrived(image=IMAGE, failure=None)
    away = DataSeen(detail="the hub is away")
    decision = look(needing(State.BUILDING), away, image=arrived)
    assert (decision.run.state, decision.run.datasets) == (State.QUEUED, None)
    assert look(needing(State.BUILDING), away).look_again_at == NOON + seconds(1)


@pytest.mark.parametrize("state", [State.BUILDING, State.QUEUED])
def test_data_that_cannot_be_had_ends_the_run_with_the_page_to_visit(state: State) -> None:
    fault = "data/train: is gated. Visit https://hub.test/datasets/acme/demo, then run it again."
    decision = look(needing(state), DataSeen(fault=fault))
    assert (decision.run.state, decision.run.outcome) == (State.FINISHED, Outcome.FAILED)
    assert (decision.run.reason.cause, decision.run.reason.text) == (Cause.DATA, fault)
    assert decision.commands == ()


def test_a_cancelled_run_ends_whatever_its_data_is() -> None:
    wish = CancelWish(by="ann", at=NOON)
    decision = look(needing(), DataSeen(fault="it is not there"), cancel=wish)
    assert decision.run.reason.cause is Cause.CANCELLED


def test_what_is_pinned_stays_whatever_the_hub_says_later() -> None:
    run = replace(needing(), datasets=PINNED)
    other = (pinning.bind(TRAIN, "6" * 40),)
    for data in (DataSeen(datasets=other), DataSeen(fault="gone"), DataSeen(detail="away"), None):
        assert look(run, data).run.datasets == PINNED


# ── the disk ────────────────────────────────────────────────────────────────────────────────────


def sized(size: int | None, entry: DataSource = TRAIN) -> Dataset:
    return pinning.bind(entry, "7", size_bytes=size)


@pytest.mark.parametrize(
    ("disk", "datasets", "told"),
    [
        (100 * GB, [sized(101 * GB)], "which takes 101 GB, found 100 GB. Write `disk: 112GB`"),
        (
            100 * GB,
            [sized(51 * GB, WINE)],
            "takes 102 GB while archives are unpacked, found 100 GB",
        ),
        (100 * GB, [sized(60 * GB), sized(60 * GB)], "takes 120 GB,"),
        (100 * GB, [sized(100 * GB)], None),
        (100 * GB, [sized(50 * GB, WINE)], None),
        (100 * GB, [sized(None)], None),
        (None, [sized(10**15)], None),
    ],
)
def test_a_disk_holds_the_data_twice_where_it_is_unpacked(
    disk: int | None, datasets: list[Dataset], told: str | None
) -> None:
    spec = a_spec(data=(TRAIN,), resources=Resources(disk_bytes=disk))
    text = pinning.disk_refusal(spec, datasets)
    assert (text is None) if told is None else (text is not None and told in text)


def test_a_run_whose_data_does_not_fit_ends_before_anything_is_paid_for() -> None:
    run = needing(resources=Resources(disk_bytes=GB))
    decision = look(run, DataSeen(datasets=PINNED))
    assert decision.run.reason.cause is Cause.DATA
    assert decision.run.reason.text.startswith("resources/disk: should hold the data")


# ── the key ─────────────────────────────────────────────────────────────────────────────────────


def test_equal_bytes_in_equal_places_have_one_key_whatever_they_are_called() -> None:
    other = replace(TRAIN, name="x", mount="/mnt/x", source="hf://datasets/acme/demo@v1")
    assert pinning.bind(TRAIN, COMMIT).key == pinning.bind(other, COMMIT).key


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "hf://models/acme/demo@main"},
        {"source": "hf://datasets/acme/demo2@main"},
        {"include": ("*.csv",)},
        {"exclude": ("*.csv",)},
        {"unpack": True},
    ],
)
def test_other_bytes_have_another_key(changes: dict[str, Any]) -> None:
    other = replace(TRAIN, **changes)
    assert pinning.bind(TRAIN, COMMIT).key != pinning.bind(other, COMMIT).key
    assert pinning.bind(TRAIN, COMMIT).key != pinning.bind(TRAIN, "6" * 40).key


# ── the work ────────────────────────────────────────────────────────────────────────────────────

LIMITS = Limits(
    max_duration=timedelta(hours=1),
    log_bytes=1,
    output_bytes=1,
    output_files=1,
    hubs={"hf": "https://hub.test"},
)


def test_an_agent_is_told_what_to_stage_from_where_and_with_which_tokens() -> None:
    subset = pinning.bind(replace(TRAIN, subset="en"), COMMIT, include=("README.md", "en/*"))
    run = a_run(spec=a_spec(data=(TRAIN,)), datasets=(subset,))
    tokens = {"HF_TOKEN": "hf_12345678"}
    work = work_for(run, an_attempt(), 0, {}, LIMITS, NOON, hub_secrets=tokens)
    [told] = work.data
    assert (told.dataset, told.endpoint) == (subset, "https://hub.test")
    assert (told.allow, told.ignore) == (("README.md", "en/*"), ())
    assert (work.hub_secrets, work.secrets, work.repository_id) == (tokens, {}, 7)


def test_a_forks_commit_gets_no_tokens_and_a_cache_of_its_own() -> None:
    fork = a_run(
        spec=a_spec(data=(TRAIN,), secrets=("HF_TOKEN",)),
        datasets=PINNED,
        origin=Origin(fork=True),
    )
    ours = replace(fork, origin=Origin())
    assert forks.hub_secret_names(fork) == ()
    assert forks.hub_secret_names(ours) == ("HF_TOKEN",)
    assert work_for(fork, an_attempt(), 0, {}, LIMITS, NOON).repository_id == 7 + forks.FORKS_BEGIN
    with pytest.raises(ValueError, match="gets no secrets"):
        work_for(fork, an_attempt(), 0, {}, LIMITS, NOON, hub_secrets={"HF_TOKEN": "x"})


def test_only_the_tokens_of_the_hubs_that_are_asked_are_given() -> None:
    gs = replace(TRAIN, source="gs://bucket/x/")
    assert forks.hub_secret_names(a_run(spec=a_spec(data=(gs,)))) == ()
    both = a_run(spec=a_spec(data=(WINE, TRAIN, gs)))
    kaggle = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY")
    assert forks.hub_secret_names(both) == (*kaggle, "HF_TOKEN")
