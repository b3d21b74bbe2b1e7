"""The pace towards GitHub, as values: spacing, what notifies people, pauses, outages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_server.runs.github_pace import (
    CONTENT_A_MINUTE,
    CONTENT_AN_HOUR,
    PATIENCE,
    PaceState,
    Turn,
    answered,
    limited,
    reserve,
    troubled,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def _write(state: PaceState, now: datetime, *, content: bool = False) -> tuple[PaceState, Turn]:
    return reserve(state, now, write=True, content=content, spacing=SECOND)


def test_writes_are_lined_up_a_second_apart() -> None:
    state, first = _write(PaceState(), NOON)
    state, second = _write(state, NOON)
    assert (first.at, second.at) == (NOON, NOON + SECOND)


def test_reads_take_no_place_in_line() -> None:
    state, _ = _write(PaceState(), NOON)
    same, turn = reserve(state, NOON, write=False, content=False, spacing=SECOND)
    assert (same, turn.at) == (state, NOON)


def test_who_would_wait_long_comes_again_instead() -> None:
    state = PaceState(write_at=NOON + PATIENCE + SECOND)
    same, turn = _write(state, NOON)
    assert turn.refused
    assert turn.at == NOON + PATIENCE + SECOND
    assert same == state


@given(st.lists(st.floats(0, 30), max_size=700))
def test_what_notifies_people_never_passes_the_minute_and_the_hour(pauses: list[float]) -> None:
    state, now, sent = PaceState(), NOON, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        state, turn = _write(state, now, content=True)
        if not turn.refused:
            sent.append(turn.at)
    for at in sent:
        assert sum(at - timedelta(minutes=1) < one <= at for one in sent) <= CONTENT_A_MINUTE
        assert sum(at - timedelta(hours=1) < one <= at for one in sent) <= CONTENT_AN_HOUR
    assert sent == sorted(sent)


def test_the_hour_of_what_notifies_people_is_full_and_other_writes_go_on() -> None:
    sent = tuple(NOON - timedelta(seconds=7 * n) for n in range(CONTENT_AN_HOUR, 0, -1))
    state = PaceState(content=sent)
    _, comment = _write(state, NOON, content=True)
    _, check_run = _write(state, NOON)
    assert comment.refused
    assert comment.at == sent[0] + timedelta(hours=1)
    assert check_run.at == NOON


@pytest.mark.case("G2")
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "90"}, timedelta(seconds=90)),
        (
            {
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": str(int(NOON.timestamp()) + 600),
            },
            timedelta(seconds=601),
        ),
        ({}, timedelta(minutes=1)),
        ({"retry-after": "999999"}, timedelta(hours=2)),
        ({"retry-after": "soon"}, timedelta(minutes=1)),
    ],
)
def test_a_refusal_for_a_limit_pauses_everything(headers: dict[str, str], wait: timedelta) -> None:
    state, until = limited(PaceState(), headers, NOON)
    assert until == NOON + wait
    for write in (True, False):
        _, turn = reserve(state, NOON, write=write, content=False, spacing=SECOND)
        assert turn.refused
        assert turn.at == until


def test_refusals_without_a_hint_wait_longer_each_time_up_to_half_an_hour() -> None:
    state, now, waits = PaceState(), NOON, []
    for _ in range(8):
        state, until = limited(state, {}, now)
        waits.append((until - now).total_seconds())
        now = until
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert answered(state, {}, now).strikes == 0


def test_one_bad_answer_is_no_outage_and_three_are() -> None:
    state, now = PaceState(), NOON
    for _ in range(2):
        state, _ = troubled(state, now)
    assert state.paused_until < now
    state, until = troubled(state, now)
    assert (state.paused_until, until) == (now + timedelta(seconds=10),) * 2
    assert answered(state, {}, now).troubles == 0


def test_an_outage_is_probed_at_least_every_two_minutes() -> None:
    state, now = PaceState(), NOON
    for _ in range(40):
        state, until = troubled(state, now)
        assert until - now <= timedelta(minutes=2)
        now = until
