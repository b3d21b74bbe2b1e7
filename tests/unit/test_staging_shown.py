"""People see how far the data is, in bytes and time, and nothing of it once it is there."""

from __future__ import annotations

from cynthus.wire_data import StagingView
from runner_images.agent.staging_progress import Progress
from tests.builders import a_run
from webhook_server.runs.model import State
from webhook_server.runs.staging_lines import staging


def a_view(**changes: object) -> StagingView:
    plain: dict[str, object] = {
        "name": "train",
        "state": "fetching",
        "done_bytes": 1_200_000_000,
        "total_bytes": 2_000_000_000,
        "eta_s": 40.0,
        "origin": "hub",
    }
    return StagingView(**{**plain, **changes})  # type: ignore[arg-type]


def test_a_line_tells_bytes_and_time() -> None:
    run = a_run(State.PROVISIONING)
    assert staging(run, [a_view()]) == (
        "### Data\n- ` train `: fetching from its hub, 1.2 GB of 2.0 GB, 40 s left"
    )
    unknown = a_view(total_bytes=None, eta_s=None, done_bytes=0, state="waiting", origin="")
    assert staging(run, [unknown]).endswith("` train `: waiting, 0.0 MB")
    assert staging(run, [a_view(eta_s=7260.0)]).endswith("2 h 1 min left")


def test_nothing_is_shown_once_all_of_it_is_there_or_the_run_is_over() -> None:
    assert staging(a_run(State.RUNNING), [a_view(state="ready")]) == ""
    assert staging(a_run(State.FINISHED), [a_view()]) == ""
    assert staging(a_run(State.RUNNING), []) == ""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_told_every_two_seconds_and_at_each_new_state() -> None:
    clock, told = Clock(), list[StagingView]()
    progress = Progress("train", 1000, clock=clock, tell=told.append)
    progress.enter("fetching", origin="hub")
    for _ in range(32):  # four seconds
        clock.now += 0.125  # exact in binary
        progress.add(10)
    progress.enter("verifying")
    progress.end(total_bytes=1000, files=3, origin="hub")
    assert [view.state for view in told] == ["fetching"] * 3 + ["verifying", "ready"]
    assert told[-1].done_bytes == 1000
    assert told[-1].files == 3


def test_the_time_left_follows_the_rate_of_the_last_half_minute() -> None:
    clock, told = Clock(), list[StagingView]()
    progress = Progress("train", 10_000, clock=clock, tell=told.append)
    progress.enter("fetching", origin="hub")
    for _ in range(100):
        clock.now += 1
        progress.add(1)  # a slow hub
    for _ in range(60):
        clock.now += 1
        progress.add(100)  # which becomes fast
    assert told[0].eta_s is None
    left = 10_000 - 6_100
    newest = told[-1].eta_s
    assert newest is not None
    assert left / 100 <= newest <= (left + 100) / 100 + 1
