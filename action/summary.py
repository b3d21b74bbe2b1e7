"""Write the step summary: what was built, where the run is, how it ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from action.amounts import size
from action.workflow import markdown_text

if TYPE_CHECKING:
    from action.order import Built, Step
    from cynthus.errors import Fault
    from cynthus.wire import RunAccepted, RunView

_MARKS = {
    "success": "✅",
    "failure": "❌",
    "cancelled": "⛔",
    "timed_out": "⏱",
    "action_required": "💰",
}
_METRICS_SHOWN = 50  # more belong on the run's own page


def built_lines(name: str, built: Built) -> list[str]:
    """Return what a person wants to know of the image."""
    way = "Docker image" if built.engine == "docker" else "plain process, no container"
    reused = ", environment reused" if built.cached else ""
    return [
        f"### Cynthus: {markdown_text(name)}",
        "",
        f"- **{way}** in {built.seconds:.1f} s{reused}",
        f"- `{built.image}`",
        *_step_lines(built.steps),
        *(f"- {markdown_text(note)}" for note in built.notes),
    ]


def _step_lines(steps: Sequence[Step]) -> list[str]:
    """Return a row for each part: what was there, what was made and why, and what it moved."""
    if not steps:
        return []
    rows = [
        f"| {step.part} | {markdown_text(step.how)} | {_sent(step)} | {step.seconds:.1f} s |"
        for step in steps
    ]
    return ["", "| part | what was done | sent | time |", "|---|---|--:|--:|", *rows, ""]


def _sent(step: Step) -> str:
    return "" if step.moved_bytes is None else size(step.moved_bytes)


def run_lines(accepted: RunAccepted) -> list[str]:
    """Return where the run is."""
    return [f"- [Run {markdown_text(accepted.run_id)}]({accepted.url})"]


def end_lines(run: RunView) -> list[str]:
    """Return how the run ended."""
    from action.follow import conclusion  # only a job that waits comes here

    word = conclusion(run)
    lines = ["", f"**{_MARKS.get(word, '')} {word}**: {markdown_text(run.reason or '')}"]
    if run.metrics:
        lines += ["", "| metric | last value |", "|---|---|"]
        shown = sorted(run.metrics.items())[:_METRICS_SHOWN]
        lines += [f"| {markdown_text(name)} | {value:g} |" for name, value in shown]
    if run.outputs:
        lines += ["", "| output | bytes |", "|---|---|"]
        lines += [f"| {markdown_text(out.path)} | {out.size_bytes} |" for out in run.outputs]
    if run.release_url:
        lines += ["", f"[Release]({run.release_url})"]
    return lines


def failure_lines(message: str, faults: Sequence[Fault] = ()) -> list[str]:
    """Return why nothing runs."""
    texts = [str(fault) for fault in faults] or message.splitlines()
    return ["### Cynthus: no run", "", *(f"- {markdown_text(text)}" for text in texts)]


def skipped_lines(reason: str) -> list[str]:
    """Return why nothing needs to run."""
    return ["### Cynthus: no run wanted", "", f"- {markdown_text(reason)}"]
