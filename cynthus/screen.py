"""Show a run's feed on a terminal, or as plain lines where none is."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from cynthus.wire import EventKind, RunEvent

if TYPE_CHECKING:
    from rich.console import RenderableType

# What a terminal obeys, not shows: ECMA-48 §5.4 control sequences, and control strings (titles,
# links, the clipboard) with all that they hold, also when cut off.
_TERMINAL = re.compile(
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|\x1b[^\[\]PX^_\n]?"
)
_OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n|\Z)")  # what a progress bar writes over
# Controls but tab and newline; marks that turn the direction of text, which can show one thing for
# another: https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
BAR_CELLS = 24  # fits beside state, time and phase in 80 columns
METRICS_SHOWN = 6  # the newest: more would not fit a line
REFRESH_PER_S = 4  # the eye's idea of live; a terminal over ssh has no trouble with it


class Screen(Protocol):
    """Where a run is watched."""

    def say(self, text: str) -> None:
        """Print a line of ours."""

    def quote(self, line: str) -> None:
        """Print a line of the build."""

    def show(self, event: RunEvent) -> None:
        """Print what one event tells."""

    def end(self, lines: list[str]) -> None:
        """Print the end, and leave the terminal as it was."""

    def close(self) -> None:
        """Leave the terminal as it was. Safe to repeat."""


def open_screen(stream: TextIO | None = None, *, plain: bool = False) -> Screen:
    """Return a live screen on a terminal that has `rich`, else plain lines."""
    stream = stream or sys.stdout
    live = not plain and stream.isatty() and importlib.util.find_spec("rich") is not None
    screen: Screen = LiveScreen(stream) if live else PlainScreen(stream)
    return Forgiving(screen, stream)


class Forgiving:
    """A screen that goes on when its terminal is gone: the run must still be ended in order."""

    def __init__(self, screen: Screen, stream: TextIO) -> None:
        self._screen = screen
        self._stream = stream
        self._gone = False

    def say(self, text: str) -> None:
        """Print a line of ours."""
        self._try(lambda: self._screen.say(text))

    def quote(self, line: str) -> None:
        """Print a line of the build."""
        self._try(lambda: self._screen.quote(line))

    def show(self, event: RunEvent) -> None:
        """Print what one event tells."""
        self._try(lambda: self._screen.show(event))

    def end(self, lines: list[str]) -> None:
        """Print the end."""
        self._try(lambda: self._screen.end(lines))

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._try(self._screen.close)

    def _try(self, printing: Callable[[], None]) -> None:
        if self._gone:
            return
        try:
            printing()
        except OSError:  # a closed pipe, a terminal that was closed
            self._gone = True
            self._forget()

    def _forget(self) -> None:
        """Point the stream to nowhere: Python flushes it once more at its end."""
        with contextlib.suppress(OSError):  # a stream of a test has no number
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class PlainScreen:
    """One line an event: for pipes, logs and terminals without `rich`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line_open = False

    def say(self, text: str) -> None:
        """Print a line of ours, on a line of its own."""
        start = "\n" if self._line_open else ""
        self._line_open = False
        told = harmless(text).replace("\n", "\n   ")
        print(f"{start}── {told}", file=self._stream, flush=True)

    def quote(self, line: str) -> None:
        """Print a line of the build."""
        print(f"   {harmless(line)}", file=self._stream, flush=True)

    def show(self, event: RunEvent) -> None:
        """Print what one event tells; samples are for the dashboard."""
        if event.kind is EventKind.LOG:
            text = harmless(str(event.body.get("text", "")))
            self._line_open = bool(text) and not text.endswith("\n")
            print(text, end="", file=self._stream, flush=True)
            return
        # A phase stands in the log already, with a mark.
        line = "" if event.kind is EventKind.PHASE else line_for(event)
        if line:
            self.say(line)

    def end(self, lines: list[str]) -> None:
        """Print the end."""
        print("\n".join(["", *map(harmless, lines)]), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to put back."""


class LiveScreen:
    """The log scrolls; phase, progress, metrics and machine use stand below it."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.live import Live

        self._clock = clock
        self._status = Status(began_s=clock())
        self._open_line = ""
        # Nothing is markup, an emoji code or a highlighted number here: most of it is the user's.
        self._console = Console(
            file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )
        self._live.start()

    def _render(self) -> RenderableType:
        from rich.text import Text

        lines = self._status.lines(self._clock())
        return Text("\n".join(lines), style="cyan", no_wrap=True, overflow="ellipsis")

    def say(self, text: str) -> None:
        """Print a line of ours above the status."""
        self._print(f"── {text}", "bold")

    def quote(self, line: str) -> None:
        """Print a line of the build."""
        self._print(f"   {line}", "dim")

    def show(self, event: RunEvent) -> None:
        """Print log lines and news; keep the rest in the status."""
        self._status.note(event)
        if event.kind is EventKind.LOG:
            self._log(str(event.body.get("text", "")))
        elif event.kind in (EventKind.STATE, EventKind.NOTICE, EventKind.ANNOTATION):
            self.say(line_for(event))

    def _log(self, text: str) -> None:
        """Print whole lines: the status stands where the rest of a line would go."""
        whole, end, self._open_line = (self._open_line + text).rpartition("\n")
        if end:
            self._print(whole, "")

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(harmless(text), style=style))

    def end(self, lines: list[str]) -> None:
        """Print the end."""
        self.close()
        for line in ["", *lines]:
            self._print(line, "")

    def close(self) -> None:
        """Take the status away."""
        rest, self._open_line = self._open_line, ""
        if rest:
            self._print(rest, "")
        self._live.stop()


@dataclass
class Status:
    """What stands below the log."""

    began_s: float
    state: str = "building"
    phase: str = ""
    progress: float | None = None
    metrics: dict[str, str] = field(default_factory=dict)
    use: str = ""

    def note(self, event: RunEvent) -> None:
        """Take what one event tells."""
        body = event.body
        match event.kind:
            case EventKind.STATE:
                self.state = harmless(str(body.get("state")))
            case EventKind.PHASE:
                self.phase, self.progress = harmless(str(body.get("name"))), None
            case EventKind.PROGRESS:
                self.progress = _share(body.get("value"))
            case EventKind.METRIC:
                self._note_metric(harmless(str(body.get("name"))), _number(body.get("value")))
            case EventKind.SAMPLE:
                self.use = _use(body)
            case _:
                pass

    def _note_metric(self, name: str, value: str) -> None:
        self.metrics.pop(name, None)  # the newest stands last
        self.metrics[name] = value

    def lines(self, now_s: float) -> list[str]:
        """Return the lines, each short enough for 80 columns where names are."""
        seconds = max(0, int(now_s - self.began_s))
        first = [self.state, f"{seconds // 60}:{seconds % 60:02}", self.phase]
        first += [_bar(self.progress)] if self.progress is not None else []
        newest = list(self.metrics.items())[-METRICS_SHOWN:]
        second = [f"{name} {value}" for name, value in newest]
        second += [self.use] if self.use else []
        return ["   ".join(part for part in line if part) for line in (first, second) if line]


def line_for(event: RunEvent) -> str:
    """Return one event as a line for people; empty for what is not worth one."""
    body = event.body
    match event.kind:
        case EventKind.STATE:
            outcome = f" · {body['outcome']}" if body.get("outcome") else ""
            return harmless(f"{body.get('state')}{outcome}: {body.get('reason', '')}")
        case EventKind.PHASE:
            return harmless(f"phase {body.get('name')}")
        case EventKind.PROGRESS:
            share = _share(body.get("value"))
            return "" if share is None else f"{share:.0%} done"
        case EventKind.METRIC:
            step = "" if body.get("step") is None else f" (step {body['step']})"
            return harmless(f"{body.get('name')} = {_number(body.get('value'))}{step}")
        case EventKind.ANNOTATION:
            place = f"{body['file']}:{body.get('line')}: " if body.get("file") else ""
            return harmless(f"{body.get('level')}: {place}{body.get('text')}")
        case EventKind.NOTICE:
            return harmless(str(body.get("text", "")))
        case _:
            return ""


def harmless(text: str) -> str:
    """Return text without anything a terminal would obey; line ends and tabs stay."""
    return _CONTROL.sub("", _OVERWRITTEN.sub("", _TERMINAL.sub("", text)))


def _share(value: Any) -> float | None:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, (int, float)) else None


def _bar(share: float) -> str:
    full = round(share * BAR_CELLS)
    return f"{'━' * full}{'╌' * (BAR_CELLS - full)} {share:.0%}"


def _use(body: dict[str, Any]) -> str:
    parts = []
    if isinstance(body.get("cpu_pct"), (int, float)):
        parts.append(f"cpu {body['cpu_pct']:.0f}%")
    if isinstance(body.get("memory_bytes"), (int, float)):
        parts.append(f"mem {body['memory_bytes'] / 1e9:.1f} GB")
    used = [gpu.get("utilization_pct") for gpu in body.get("gpus") or () if isinstance(gpu, dict)]
    parts += [f"gpu {share:.0f}%" for share in used if isinstance(share, (int, float))]
    return " ".join(parts)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
