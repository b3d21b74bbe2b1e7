"""Tell how far the data of a run is: pure."""

from __future__ import annotations

from collections.abc import Iterable

from cynthus.wire_data import StagingView
from webhook_server.runs.hostile import code, inline
from webhook_server.runs.model import Run, State

_LINES = 32  # as many as a spec has data
_FROM = {"hub": "its hub", "cache": "Cynthus' cache", "disk": "the instance's disk"}


def staging(run: Run, views: Iterable[StagingView]) -> str:
    """Return a line for each dataset that is on its way; nothing once the command may start."""
    shown = list(views)[:_LINES]
    waits = run.state in {State.PROVISIONING, State.RUNNING}
    if not waits or all(view.state == "ready" for view in shown):
        return ""
    return "\n".join(["### Data", *(f"- {code(view.name)}: {_line(view)}" for view in shown)])


def _line(view: StagingView) -> str:
    if view.state == "ready":
        return f"{_size(view.done_bytes)} are there"
    whole = f" of {_size(view.total_bytes)}" if view.total_bytes is not None else ""
    left = f", {_time(view.eta_s)} left" if view.eta_s is not None else ""
    origin = f" from {_FROM[view.origin]}" if view.origin in _FROM else ""
    return f"{inline(view.state, 20)}{origin}, {_size(view.done_bytes)}{whole}{left}"


def _size(count: int) -> str:
    return f"{count / 10**9:.1f} GB" if count >= 10**9 else f"{count / 10**6:.1f} MB"


def _time(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:  # noqa: PLR2004 - a minute
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole // 60 % 60} min"  # noqa: PLR2004 - an hour
