"""What a person sees of a run: lines, the status below them, the end, the page of it."""

from __future__ import annotations

import io
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.interrupts import Interrupts
from cynthus.run_report import cell, end_lines, markdown, own_name
from cynthus.screen import (
    Forgiving,
    LiveScreen,
    PlainScreen,
    Screen,
    Status,
    harmless,
    line_for,
    open_screen,
)
from cynthus.wire import EventKind, OutputView, RunEvent, RunView

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def an_event(kind: str, **body: object) -> RunEvent:
    return RunEvent(seq=1, at=NOON, attempt=1, kind=EventKind(kind), body=body)


def an_output(path: str, size_bytes: int = 8) -> OutputView:
    return OutputView(path=path, size_bytes=size_bytes, sha256="c" * 64, url=None)


def a_view(**changes: Any) -> RunView:
    given: dict[str, Any] = {
        "id": "arun00000001",
        "name": "little",
        "repository": "local/little",
        "commit_sha": "b" * 40,
        "trigger": "local/1",
        "state": "finished",
        "outcome": "succeeded",
        "cause": "exit",
        "reason": "the command succeeded",
        "created_at": NOON,
        "state_since": NOON,
        "finished_at": NOON + timedelta(seconds=4.25),
        "progress": None,
        "phase": None,
        "metrics": {},
        "cost_usd": Decimal(0),
        "image": None,
        "notices": (),
        "attempts": (),
        "outputs": (),
        "release_url": None,
        "url": "http://127.0.0.1/runs/arun00000001",
    }
    return RunView(**(given | changes))


# ── nothing of the command is obeyed ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hcleared", "cleared"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x1b]52;c;Zm9v\x07clip", "clip"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x1b]0;cut off\nnext", "\nnext"),
        ("cut off \x1b[", "cut off "),
        ("cut off \x1b", "cut off "),
        ("\x9b31mC1", "31mC1"),
        ("a\x00b\x08c\x7f", "abc"),
        ("10%\r20%\r30%\n", "30%\n"),
        ("windows\r\n", "windows\n"),
        ("abc\u202etxt.exe", "abctxt.exe"),
        ("größe 中文 ✓", "größe 中文 ✓"),
    ],
)
def test_text_is_shown_and_never_obeyed(text: str, shown: str) -> None:
    assert harmless(text) == shown


# ── lines ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (an_event("state", state="running", reason="on it"), "running: on it"),
        (
            an_event("state", state="finished", outcome="failed", reason="exit 3"),
            "finished · failed: exit 3",
        ),
        (an_event("phase", name="train"), "phase train"),
        (an_event("progress", value=0.5), "50% done"),
        (an_event("progress", value="x"), ""),
        (an_event("metric", name="loss", step=2, value=0.123456), "loss = 0.1235 (step 2)"),
        (an_event("metric", name="loss", step=None, value=2), "loss = 2"),
        (
            an_event("annotation", level="notice", file="a.py", line=3, text="t"),
            "notice: a.py:3: t",
        ),
        (an_event("annotation", level="warning", text="t"), "warning: t"),
        (an_event("notice", text="\x1b[2Jtold"), "told"),
        (an_event("sample", cpu_pct=3.0), ""),
    ],
)
def test_an_event_is_a_line_for_people(event: RunEvent, line: str) -> None:
    assert line_for(event) == line


def test_plain_lines_of_ours_never_share_a_line_with_the_log() -> None:
    stream = io.StringIO()
    screen = PlainScreen(stream)
    screen.show(an_event("log", text="no end"))
    screen.say("ours")
    screen.show(an_event("log", text="more\n"))
    screen.say("two\nlines")
    assert stream.getvalue() == "no end\n── ours\nmore\n── two\n   lines\n"


def test_the_status_tells_state_time_phase_progress_metrics_and_use() -> None:
    status = Status(began_s=100.0)
    for event in (
        an_event("state", state="running"),
        an_event("phase", name="train"),
        an_event("progress", value=0.25),
        an_event("metric", name="loss", value=0.5),
        an_event("metric", name="accuracy", value=0.9),
        an_event("metric", name="loss", value=0.4),
        an_event("sample", cpu_pct=97.6, memory_bytes=1.5e9, gpus=[{"utilization_pct": 80}, "odd"]),
    ):
        status.note(event)
    assert status.lines(175.0) == [
        "running   1:15   train   " + "━" * 6 + "╌" * 18 + " 25%",
        "accuracy 0.9   loss 0.4   cpu 98% mem 1.5 GB gpu 80%",
    ]


def test_a_new_phase_begins_without_progress() -> None:
    status = Status(began_s=0.0)
    status.note(an_event("progress", value=1.0))
    status.note(an_event("phase", name="evaluate"))
    assert status.lines(0.0) == ["building   0:00   evaluate"]


def test_a_live_screen_prints_whole_lines_and_takes_its_status_away() -> None:
    stream = io.StringIO()
    screen = LiveScreen(stream, clock=lambda: 0.0)
    screen.show(an_event("log", text="half "))
    screen.show(an_event("log", text="line [bold]kept[/bold] :smile:\nrest"))
    screen.end(["the end"])
    shown = [line for line in stream.getvalue().splitlines() if line]
    assert shown[0] == "half line [bold]kept[/bold] :smile:"
    assert shown[-2:] == ["rest", "the end"]


def test_where_no_terminal_is_lines_are_plain() -> None:
    stream = io.StringIO()
    screen = open_screen(stream)
    screen.say("told")
    screen.close()
    assert stream.getvalue() == "── told\n"


def test_a_terminal_that_is_gone_stops_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, _: str, /) -> int:
            raise BrokenPipeError

    stream = Gone()
    screen: Screen = Forgiving(PlainScreen(stream), stream)
    screen.say("nobody reads this")
    screen.show(an_event("log", text="nor this\n"))
    screen.end(["nor that"])
    screen.close()


# ── the end ─────────────────────────────────────────────────────────────────────────────────────


def test_the_end_lists_metrics_and_outputs_in_columns() -> None:
    view = a_view(metrics={"loss": 0.25, "accuracy": 0.96875}, notices=("went without",))
    kept = [an_output("model/w.bin", 1_234_567), an_output("a.txt")]
    assert end_lines(view, kept, "out/arun00000001") == [
        "little: succeeded in 4.2 s: the command succeeded",
        "  note: went without",
        "  metric  accuracy  0.96875",
        "          loss         0.25",
        "  output  model/w.bin  1.2 MB",
        "          a.txt           8 B",
        "  copied to out/arun00000001/",
    ]


def test_many_outputs_are_counted_not_listed() -> None:
    kept = [an_output(f"o{n}") for n in range(25)]
    assert end_lines(a_view(), kept, "out")[-2].strip() == "… and 5 more"


def test_a_long_run_is_told_in_hours() -> None:
    view = a_view(finished_at=NOON + timedelta(hours=2, seconds=3), outcome="timed_out")
    assert end_lines(view, [], "out")[0].startswith("little: timed out in 2:00:03: ")


def test_our_files_never_replace_an_output() -> None:
    taken = [an_output("log.txt"), an_output("cynthus-log.txt/x")]
    assert own_name("log.txt", []) == "log.txt"
    assert own_name("log.txt", taken) == "cynthus-cynthus-log.txt"


def test_the_page_has_metrics_outputs_and_the_commands_own_summary() -> None:
    view = a_view(metrics={"a|b": 1.0}, notices=("<script>",))
    page = markdown(view, [an_output("x")], "\n# Mine\n")
    assert page.startswith("# little: succeeded\n\nthe command succeeded\n")
    assert "| a\\|b | 1 |" in page
    assert f"| x | 8 | {'c' * 64} |" in page
    assert "- &lt;script>" in page
    assert page.endswith("## Summary\n\n# Mine\n")


def test_a_cell_holds_on_one_line_whatever_it_is_given() -> None:
    assert cell("a\n|b`<i>\\") == "a \\|b\\`&lt;i>\\\\"


# ── signals ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_until_somebody_else_takes_it(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    heard: list[str] = []
    with Interrupts() as interrupts:
        with interrupts.told_to(lambda: heard.append("told")):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert heard == ["told"]
    assert interrupts.count == 2
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
