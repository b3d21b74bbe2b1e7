"""The Action prints a run's events, each once, through outages, to its end."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from action import follow
from action.follow import Follower
from action.workflow import PlainConsole
from cynthus.errors import Refused, Transient, UserError
from cynthus.wire import EventKind, RunAccepted, RunEvent, RunView

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ACCEPTED = RunAccepted(run_id="r1", url="https://cynthus.example.org/runs/r1", token="t")


@dataclass
class Script:
    """A server whose answers are written down; time passes only when somebody waits."""

    answers: list[list[RunEvent] | Exception]
    asked: list[int] = field(default_factory=list)
    now: float = 0.0
    out: io.StringIO = field(default_factory=io.StringIO)

    def events(  # the shape of the server's door
        self,
        run_id: str,  # noqa: ARG002 - there is one run
        after: int,
        limit: int,  # noqa: ARG002 - pages are as written down
    ) -> tuple[RunEvent, ...]:
        self.asked.append(after)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return tuple(event for event in answer if event.seq > after)

    def get(self, run_id: str) -> RunView:  # noqa: ARG002 - the door's shape
        return a_view()

    def cancel(self, run_id: str) -> None:  # noqa: ARG002 - the door's shape
        raise Transient("away")

    def wait(self, seconds: float) -> None:
        self.now += seconds


def follower(script: Script, limit: timedelta = timedelta(hours=1)) -> Follower:
    return Follower(
        client=script,
        run=ACCEPTED,
        console=PlainConsole(script.out),
        limit=limit,
        wait=script.wait,
        clock=lambda: script.now,
    )


def an_event(seq: int, kind: EventKind, **body: object) -> RunEvent:
    return RunEvent(seq=seq, at=NOON, attempt=1, kind=kind, body=body)


FINISHED = an_event(99, EventKind.STATE, state="finished", outcome="succeeded", reason="exit 0")


def a_view() -> RunView:
    return RunView(
        id="r1",
        name="tiny",
        repository="acme/train",
        commit_sha="a" * 40,
        trigger="push",
        state="finished",
        outcome="succeeded",
        cause=None,
        reason="exit 0",
        created_at=NOON,
        state_since=NOON,
        finished_at=NOON,
        progress=None,
        phase=None,
        metrics={},
        cost_usd=Decimal(0),
        image=None,
        notices=(),
        attempts=(),
        outputs=(),
        release_url=None,
        url=ACCEPTED.url,
    )


def test_every_event_is_printed_once() -> None:
    first = [an_event(1, EventKind.LOG, text="one\ntwo")]
    script = Script([first, first, [*first, an_event(2, EventKind.LOG, text="three"), FINISHED]])
    assert follow.follow(follower(script)).outcome == "succeeded"
    assert script.asked == [0, 1, 1]
    lines = script.out.getvalue().splitlines()
    assert lines == ["one", "two", "three", "■ finished (succeeded): exit 0"]


def test_a_full_page_is_followed_by_the_next_at_once() -> None:
    page = [an_event(n, EventKind.LOG, text=str(n)) for n in range(1, follow.PAGE + 1)]
    script = Script([page, [an_event(follow.PAGE + 1, EventKind.STATE, state="finished")]])
    follow.follow(follower(script))
    assert script.now == 0


def test_a_server_that_is_away_for_a_while_is_waited_for() -> None:
    script = Script([Transient("away"), Transient("away"), [FINISHED]])
    follow.follow(follower(script))
    assert "the run goes on" in script.out.getvalue()


def test_a_server_that_stays_away_ends_the_wait() -> None:
    script = Script([Transient("away")])
    with pytest.raises(Transient):
        follow.follow(follower(script, limit=timedelta(days=1)))
    assert follow.PATIENCE.total_seconds() < script.now < follow.PATIENCE.total_seconds() + 10


def test_a_server_that_refuses_ends_the_wait_at_once() -> None:
    with pytest.raises(Refused):
        follow.follow(follower(Script([Refused("no")])))


def test_the_limit_holds_however_long_the_run_is() -> None:
    script = Script([[]])
    with pytest.raises(UserError, match="wait-timeout"):
        follow.follow(follower(script, limit=timedelta(minutes=5)))
    assert 300 < script.now < 310


def test_progress_is_a_line_for_every_tenth() -> None:
    values = [an_event(n, EventKind.PROGRESS, value=n / 1000) for n in range(1, 1001)]
    script = Script([[*values, an_event(2000, EventKind.STATE, state="finished")]])
    follow.follow(follower(script))
    lines = [line for line in script.out.getvalue().splitlines() if line.startswith("…")]
    assert len(lines) == 11


def test_a_cancel_that_nobody_hears_is_told() -> None:
    assert follow.cancel(follower(Script([[]]))) is False


@pytest.mark.parametrize(("outcome", "word"), follow.CONCLUSIONS.items())
def test_outcomes_are_told_in_githubs_words(outcome: str, word: str) -> None:
    import dataclasses

    assert follow.conclusion(dataclasses.replace(a_view(), outcome=outcome)) == word
