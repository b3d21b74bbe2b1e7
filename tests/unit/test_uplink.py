"""Heartbeats count without a gap and survive whatever the way to the server does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cynthus.wire import AgentState, EventKind, Exit, Rendezvous
from runner_images.agent.clock import elapsed_s
from runner_images.agent.door import Door
from runner_images.agent.outbox import Outbox
from runner_images.agent.uplink import Orders, Times, Uplink
from tests.fake_control_plane import TOKEN, ControlPlane, a_work

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Told:
    """What the server ordered."""

    def __init__(self) -> None:
        self.stops: list[str] = []
        self.over: list[str] = []
        self.meetings: list[Rendezvous] = []
        self.prolonged: list[float] = []


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(a_work()) as plane:
        yield plane


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "spool", log_limit_bytes=1 << 30, now=lambda: NOON)
    yield outbox
    outbox.close()


@pytest.fixture
def start(plane: ControlPlane, outbox: Outbox) -> Iterator[Callable[..., tuple[Uplink, Told]]]:
    started: list[tuple[Uplink, threading.Thread, Door]] = []

    def make(beat_s: float = 60.0) -> tuple[Uplink, Told]:
        told = Told()
        door = Door(plane.url, token=TOKEN)
        orders = Orders(
            stop=told.stops.append,
            over=told.over.append,
            mask=lambda _: None,
            meet=told.meetings.append,
            prolong=told.prolonged.append,
        )
        uplink = Uplink(
            door, outbox, orders, Times(beat_s=beat_s, clock=elapsed_s, now=lambda: NOON)
        )
        thread = threading.Thread(target=uplink.run)
        thread.start()
        started.append((uplink, thread, door))
        return uplink, told

    yield make
    for uplink, thread, door in started:
        uplink.close()
        thread.join(60)
        door.close()


Start = Callable[..., tuple[Uplink, Told]]


def test_news_go_out_long_before_the_next_period(
    start: Start, plane: ControlPlane, outbox: Outbox
) -> None:
    start()
    plane.wait(lambda: len(plane.beats) == 1)
    outbox.log("hello\n")
    plane.wait(lambda: plane.log == "hello\n")


def test_without_news_it_beats_with_the_period(start: Start, plane: ControlPlane) -> None:
    start(beat_s=0.05)
    plane.wait(lambda: len(plane.beats) >= 4)
    assert all(not beat["events"] for beat in plane.beats)


def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_number(
    start: Start, plane: ControlPlane, outbox: Outbox
) -> None:
    plane.drop_answers = 3
    outbox.log("once\n")
    start(beat_s=0.05)
    plane.wait(lambda: len(plane.beats) >= 4)
    assert plane.log == "once\n"


def test_done_is_the_last_word_after_all_of_the_log(
    start: Start, plane: ControlPlane, outbox: Outbox
) -> None:
    for number in range(100):
        outbox.log(f"{number} " * 10_000)
    uplink, _ = start()
    uplink.report(AgentState.DONE, exit=Exit(code=0), outputs=())
    assert uplink.ended.wait(60)
    assert [beat["state"] for beat in plane.beats].count("done") == 1
    assert plane.beats[-1]["outputs"] == []
    assert len(plane.log) == sum(len(f"{number} ") * 10_000 for number in range(100))
    assert plane.largest_beat < 300 * 1024


def test_the_first_exit_stays(start: Start, plane: ControlPlane) -> None:
    uplink, _ = start()
    uplink.report(AgentState.UPLOADING, exit=Exit(code=0))
    uplink.report(AgentState.DONE, exit=Exit(code=1), outputs=())
    assert uplink.ended.wait(60)
    assert plane.exit["code"] == 0


@pytest.mark.parametrize("status", [401, 410])
def test_an_attempt_that_is_over_is_told_once(
    start: Start, plane: ControlPlane, status: int
) -> None:
    plane.status = status
    uplink, told = start(beat_s=0.05)
    assert uplink.ended.wait(60)
    assert len(told.over) == 1
    assert str(status) in told.over[0]


@pytest.mark.parametrize("status", [403, 404, 429, 500, 502, 503])
def test_any_other_refusal_is_an_outage_that_passes(
    start: Start, plane: ControlPlane, outbox: Outbox, status: int
) -> None:
    plane.status = status
    outbox.log("kept\n")
    uplink, told = start(beat_s=0.05)
    plane.status = 200
    plane.wait(lambda: plane.log == "kept\n")
    assert not told.over
    assert uplink.silent_s() < 30


def test_events_that_the_server_cannot_read_are_left_out_and_told(
    start: Start, plane: ControlPlane, outbox: Outbox
) -> None:
    plane.status = 422
    outbox.add(EventKind.PHASE, {"name": "bad"})
    start(beat_s=0.05)
    with plane.changed:
        plane.changed.wait(60)  # the refusal
    plane.status = 200
    plane.wait(lambda: bool(plane.events("notice")))
    assert "1 events were refused" in plane.events("notice")[0]["text"]
    assert plane.events("phase") == []


def test_an_order_to_stop_is_passed_on(start: Start, plane: ControlPlane) -> None:
    plane.stop = "cancelled by octocat"
    _, told = start(beat_s=0.05)
    plane.wait(lambda: len(plane.beats) >= 3)
    assert set(told.stops) == {"cancelled by octocat"}


def test_what_the_machines_owner_says_is_told_at_once_and_repeated(
    start: Callable[..., tuple[Uplink, Told]], plane: ControlPlane, outbox: Outbox
) -> None:
    uplink, _ = start()  # whose next beat without news is a minute away
    plane.wait(lambda: len(plane.beats) == 1)
    uplink.report_maintenance("TERMINATE_ON_HOST_MAINTENANCE")
    plane.wait(lambda: plane.beats[-1]["maintenance"] is not None, 1)
    uplink.report_preempted()
    plane.wait(lambda: plane.beats[-1]["preempted"], 1)
    outbox.notice("more")
    plane.wait(lambda: plane.events("notice") == [{"text": "more"}], 2)
    assert plane.beats[-1]["preempted"]
    assert plane.beats[-1]["maintenance"] == "TERMINATE_ON_HOST_MAINTENANCE"


def test_where_the_gang_meets_is_passed_on(
    start: Callable[..., tuple[Uplink, Told]], plane: ControlPlane, outbox: Outbox
) -> None:
    meeting = Rendezvous(address="10.128.0.2", peers=("10.128.0.2", "10.128.0.3"))
    plane.rendezvous = meeting
    uplink, told = start()
    uplink.report(AgentState.READY)
    plane.wait(lambda: len(told.meetings) > 0)
    assert set(told.meetings) == {meeting}


def test_more_time_is_passed_on_with_each_answer(start: Start, plane: ControlPlane) -> None:
    plane.deadline_s = 5400.0
    _, told = start(beat_s=0.05)
    plane.wait(lambda: len(plane.beats) >= 3)
    assert set(told.prolonged) == {5400.0}


def test_an_answer_of_a_server_that_knows_of_no_extensions_changes_nothing(
    start: Start, plane: ControlPlane
) -> None:
    _, told = start(beat_s=0.05)
    plane.wait(lambda: len(plane.beats) >= 3)
    assert told.prolonged == []
