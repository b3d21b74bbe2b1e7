"""What is remembered of a run's feed while it is followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cynthus.wire import EventKind
from tests.builders import NOON, seconds
from webhook_server.publish.feed import Feeds
from webhook_server.runs.feed_facts import Headway
from webhook_server.stores.database import Database
from webhook_server.stores.event_store import EventStore

RUN = "arun00000001"


@pytest.fixture
def events(tmp_path: Path) -> Iterator[EventStore]:
    db = Database(f"sqlite:///{tmp_path}/feeds.db", now=lambda: NOON)
    db.migrate()
    yield EventStore(db)
    db.close()


def a_sample(busy: float) -> dict[str, object]:
    return {"cpu_pct": 100.0, "memory_bytes": 1e9, "gpus": [{"utilization_pct": busy}]}


def test_samples_are_read_once_and_summed_up(events: EventStore) -> None:
    feeds = Feeds(events)
    events.append(RUN, 1, EventKind.SAMPLE, a_sample(20.0), NOON)
    assert feeds.read(RUN).usage.samples == 1
    events.append(RUN, 1, EventKind.SAMPLE, a_sample(40.0), NOON)
    feeds.read(RUN)
    usage = feeds.read(RUN).usage
    assert usage.samples == 2
    assert usage.gpus[0].busy is not None
    assert usage.gpus[0].busy.mean == 30.0


def test_another_attempt_is_another_machine(events: EventStore) -> None:
    events.append(RUN, 1, EventKind.SAMPLE, a_sample(90.0), NOON)
    events.append(RUN, 2, EventKind.SAMPLE, a_sample(10.0), NOON)
    events.append(RUN, 1, EventKind.SAMPLE, a_sample(95.0), NOON)  # late: it is over
    usage = Feeds(events).read(RUN).usage
    assert usage.samples == 1
    assert usage.gpus[0].busy is not None
    assert usage.gpus[0].busy.mean == 10.0


def test_progress_keeps_where_it_began(events: EventStore) -> None:
    feeds = Feeds(events)
    for after, value in ((0, 0.2), (60, 0.4), (120, "x"), (180, 0.6)):
        events.append(RUN, 1, EventKind.PROGRESS, {"value": value}, NOON + seconds(after))
    headway = feeds.read(RUN).headway
    assert headway == Headway(first_at=NOON, first=0.2, newest_at=NOON + seconds(180), newest=0.6)


def test_progress_that_begins_again_is_counted_anew(events: EventStore) -> None:
    feeds = Feeds(events)
    for after, value in ((0, 0.5), (60, 0.9), (70, 0.1)):
        events.append(RUN, 1, EventKind.PROGRESS, {"value": value}, NOON + seconds(after))
    headway = feeds.read(RUN).headway
    assert headway is not None
    assert (headway.first_at, headway.first) == (NOON + seconds(70), 0.1)
    events.append(RUN, 1, EventKind.STATE, {"state": "queued"}, NOON + seconds(80))
    feed = feeds.read(RUN)
    assert (feed.headway, feed.progress) == (None, None)


def test_the_first_word_of_each_kind_is_followed(events: EventStore) -> None:
    events.append(RUN, 1, EventKind.STATE, {"state": "running"}, NOON)
    events.append(RUN, 1, EventKind.PHASE, {"name": "train"}, NOON)
    events.append(RUN, 1, EventKind.METRIC, {"name": "loss", "value": 0.5}, NOON)
    events.append(RUN, 1, EventKind.METRIC, {"name": "loss", "value": "x"}, NOON)
    events.append(RUN, 1, EventKind.SUMMARY, {"text": "# S"}, NOON)
    events.append(RUN, 1, EventKind.NOTICE, {"text": "n"}, NOON)
    events.append(RUN, 1, EventKind.ANNOTATION, {"text": "a"}, NOON)
    events.append(RUN, 1, EventKind.MARK, {"name": "enrolled"}, NOON)
    events.append(RUN, 1, EventKind.LOG, {"text": "line\n"}, NOON)
    feed = Feeds(events).read(RUN)
    assert [moment.text for moment in feed.timeline] == ["running", "phase train"]
    assert (feed.phase, feed.metrics, feed.summary) == ("train", {"loss": (0.5,)}, "# S")
    assert (feed.notices, feed.annotations) == (("n",), ({"text": "a"},))
    assert ([mark.name for mark in feed.marks[1]], feed.log_tail) == (["enrolled"], "line\n")


def test_how_far_the_data_is_is_known_by_dataset_until_the_next_attempt(
    events: EventStore,
) -> None:
    feeds = Feeds(events)
    for done in (1, 2):
        body = {"name": "train", "state": "fetching", "done_bytes": done, "total_bytes": 4}
        events.append(RUN, 1, EventKind.STAGING, body, NOON)
    events.append(RUN, 1, EventKind.STAGING, {"name": 7}, NOON)
    [view] = feeds.read(RUN).staging
    assert (view.name, view.done_bytes, view.total_bytes) == ("train", 2, 4)
    events.append(RUN, 1, EventKind.STATE, {"state": "queued"}, NOON)
    assert feeds.read(RUN).staging == ()
