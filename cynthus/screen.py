"""Show a run's feed on a terminal, or as plain lines where none is."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from cynthus.wire import EventKind, RunEvent

# Colours and cursor moves of the user's program must not rearrange our screen:
# ECMA-48 §5.4 control sequences, and the operating-system commands that set window titles.
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
BAR_CELLS = 24  # fits beside phase and metrics in 80 columns


class Screen(Protocol):
    """Where a run is watched."""

    def say(self, text: str) -> None:
        """Print a line of ours."""

    def show(self, event: RunEvent) -> None:
        """Print what one event tells."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def open_screen(stream: TextIO | None = None, *, plain: bool = False) -> Screen:
    """Return a live screen on a terminal that has `rich`, else plain lines."""
    stream = stream or sys.stdout
    live = not plain and stream.isatty() and importlib.util.find_spec("rich") is not None
    return LiveScreen(stream) if live else PlainScreen(stream)


class PlainScreen:
    """One line an event: for pipes, logs and terminals without `rich`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """Print a line of ours."""
        print(f"── {text}", file=self._stream, flush=True)

    def show(self, event: RunEvent) -> None:
        """Print what one event tells; samples are for the dashboard."""
        if event.kind is EventKind.LOG:
            print(harmless(str(event.body.get("text", ""))), end="", file=self._stream, flush=True)
            return
        line = line_for(event)
        if line:
            self.say(line)

    def close(self) -> None:
        """Nothing to put back."""


class LiveScreen:
    """The log scrolls; phase, progress, metrics and machine use stand below it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._live.start()
        self._status: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Print a line of ours above the status."""
        self._console.print(f"[bold cyan]──[/] {_escape(text)}", soft_wrap=True)

    def show(self, event: RunEvent) -> None:
        """Print log lines and news; keep the rest in the status."""
        if event.kind is EventKind.LOG:
            text = harmless(str(event.body.get("text", ""))).rstrip("\n")
            self._console.print(_escape(text), soft_wrap=True)
        elif event.kind in (EventKind.STATE, EventKind.NOTICE, EventKind.ANNOTATION):
            self.say(line_for(event))
        self._status.update(_status(event))
        self._live.update("   ".join(self._status.values()), refresh=False)

    def close(self) -> None:
        """Take the status away."""
        self._live.stop()


def line_for(event: RunEvent) -> str:
    """Return one event as a line for people; empty for what is not worth one."""
    body = event.body
    match event.kind:
        case EventKind.STATE:
            outcome = f" · {body['outcome']}" if body.get("outcome") else ""
            return harmless(f"{body.get('state')}{outcome}: {body.get('reason', '')}")
        case EventKind.PHASE:
            return harmless(f"phase {body.get('name')}")
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
    return _CONTROL.sub("", _TERMINAL.sub("", text))


def _status(event: RunEvent) -> Mapping[str, str]:
    body = event.body
    match event.kind:
        case EventKind.STATE:
            return {"state": f"[bold]{_escape(str(body.get('state')))}[/]"}
        case EventKind.PHASE:
            return {"phase": _escape(harmless(str(body.get("name"))))}
        case EventKind.PROGRESS:
            return {"progress": _bar(body.get("value"))}
        case EventKind.METRIC:
            name = harmless(str(body.get("name")))
            return {f"metric {name}": _escape(f"{name} {_number(body.get('value'))}")}
        case EventKind.SAMPLE:
            return {"use": _escape(_use(body))}
        case _:
            return {}


def _bar(value: Any) -> str:
    share = min(max(float(value), 0.0), 1.0) if isinstance(value, (int, float)) else 0.0
    full = round(share * BAR_CELLS)
    return f"[green]{'━' * full}[/][dim]{'━' * (BAR_CELLS - full)}[/] {share:.0%}"


def _use(body: Mapping[str, Any]) -> str:
    parts = []
    if isinstance(body.get("cpu_pct"), (int, float)):
        parts.append(f"cpu {body['cpu_pct']:.0f}%")
    if isinstance(body.get("memory_bytes"), (int, float)):
        parts.append(f"mem {body['memory_bytes'] / 1e9:.1f} GB")
    return " ".join(parts)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def _escape(text: str) -> str:
    # rich reads [word] as markup: https://rich.readthedocs.io/en/stable/markup.html#escaping
    return text.replace("[", r"\[")
