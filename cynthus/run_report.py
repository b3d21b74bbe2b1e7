"""Tell how a run ended: a table for the terminal, and Markdown for the folder of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cynthus.wire import OutputView, RunView

LOG, SUMMARY = "log.txt", "summary.md"
FILES_SHOWN = 20  # a screenful; the folder has them all


def own_name(wanted: str, outputs: Sequence[OutputView]) -> str:
    """Return a name for a file of ours that no output has."""
    taken = {output.path.partition("/")[0] for output in outputs}
    return wanted if wanted not in taken else own_name(f"cynthus-{wanted}", outputs)


def end_lines(view: RunView, kept: Sequence[OutputView], folder: str) -> list[str]:
    """Return the last words on a terminal."""
    lines = [f"{view.name}: {_word(view)} in {_took(view)}: {_first_line(view.reason)}"]
    lines += [f"  {line}" for line in (view.reason or "").splitlines()[1:]]
    lines += [f"  note: {notice}" for notice in view.notices]
    lines += _columns("metric", [(name, f"{value:.6g}") for name, value in _metrics(view)])
    rows = [(output.path, _size(output.size_bytes)) for output in kept[:FILES_SHOWN]]
    if len(kept) > FILES_SHOWN:
        rows.append((f"… and {len(kept) - FILES_SHOWN} more", ""))
    lines += _columns("output", rows)
    return [*lines, f"  copied to {folder}/"]


def markdown(view: RunView, kept: Sequence[OutputView], summary: str) -> str:
    """Return the run as a page, the command's own summary at its end."""
    parts = [
        f"# {view.name}: {_word(view)}",
        cell(view.reason or ""),
        f"Run `{view.id}`, commit `{view.commit_sha[:12]}`, begun"
        f" {view.created_at:%Y-%m-%d %H:%M:%S} UTC, took {_took(view)}.",
    ]
    parts += ["\n".join(f"- {cell(notice)}" for notice in view.notices)] if view.notices else []
    parts += _table(("metric", "last value"), [(n, f"{v:.6g}") for n, v in _metrics(view)])
    rows = [(o.path, f"{o.size_bytes:,}", o.sha256) for o in kept]
    parts += _table(("output", "bytes", "SHA-256"), rows)
    parts += ["## Summary", summary.strip()] if summary.strip() else []
    return "\n\n".join(parts) + "\n"


def cell(text: str) -> str:
    """Return others' text as one line that ends no table cell and begins no HTML."""
    line = " ".join(text.split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")


def _word(view: RunView) -> str:
    return (view.outcome or view.state).replace("_", " ")


def _first_line(text: str | None) -> str:
    return (text or "no reason given").splitlines()[0]


def _took(view: RunView) -> str:
    took = (view.finished_at or view.state_since) - view.created_at
    if took < timedelta(minutes=1):
        return f"{took.total_seconds():.1f} s"
    return str(timedelta(seconds=round(took.total_seconds())))


def _metrics(view: RunView) -> list[tuple[str, float]]:
    return sorted(view.metrics.items())


def _columns(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    width = max(len(name) for name, _ in rows)
    amounts = max(len(amount) for _, amount in rows)
    return [
        f"  {title if number == 0 else '':6}  {name:{width}}  {amount:>{amounts}}".rstrip()
        for number, (name, amount) in enumerate(rows)
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [heads, ["---"] * len(heads), *[[cell(text) for text in row] for row in rows]]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:  # noqa: PLR2004 - the first unit
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":  # noqa: PLR2004 - shown with one decimal
            return f"{size:.1f} {unit}"
    raise AssertionError
