"""Write the one comment of a pull request: what was answered, how its runs stand: pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from cynthus.money import of_limit, usd_left
from webhook_server.runs.headline import COUNTERS
from webhook_server.runs.hostile import code, cut_end, escaped, inline
from webhook_server.runs.model import Outcome, Run, State
from webhook_server.runs.pull import PRESSED, Pull, Reply

# GitHub refuses a longer body with 422 "Body is too long (maximum is 65536 characters)"; counted
# here in bytes, which is never less. https://github.com/orgs/community/discussions/27190
BODY_LIMIT = 65_536
_REPLY_LIMIT = 24_000  # an answer with 20 kB of log and what stands around it
_ROWS = 10  # runs of the table: what fits a screen; the others are on the pull request's commits
_SWEEPS, _SWEEP_ROWS = 2, 50
_METRICS = 3  # columns of a sweep's table: a comment is 800 pixels wide
_OLDER_LEFT_OUT = "<sub>Earlier answers are left out here: a comment has an end.</sub>"
_FOOTER = (
    "<sub>This comment is edited in place. Whoever may do so asks by a comment of their own:"
    " a line such as <code>/cynthus status</code>, <code>/cynthus why</code> or"
    " <code>/cynthus help</code>.</sub>"
)
_ASK = re.compile(r"(?im)^([^\S\n]*)/(?=cynthus)")
# A name tells what is better often enough to be of use; where it does not, nothing is marked.
_HIGHER = {"acc", "accuracy", "auc", "auroc", "bleu", "f1", "iou", "map", "precision", "r2"}
_HIGHER |= {"recall", "reward", "rouge", "score"}
_LOWER = {
    "cer",
    "err",
    "error",
    "fid",
    "loss",
    "mae",
    "mse",
    "nll",
    "perplexity",
    "ppl",
    "rmse",
    "wer",
}
_WORD = re.compile(r"[a-z]+\d?")


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """What the comment tells of one run."""

    run: Run
    metrics: Mapping[str, float] = field(default_factory=dict)  # the last values; of sweeps only
    check_url: str | None = None


def marker_of(pull: Pull) -> str:
    """Return the hidden text by which our comment is found again, should its id be lost."""
    return f"<!-- cynthus sticky {pull.repository_id}/{pull.number} -->"


def comment(pull: Pull, lines: Sequence[RunLine], url_of: Callable[[str], str]) -> str:
    """Return the comment's whole text, at most 65,536 bytes; `lines` are the newest runs first.

    Nothing in it is an ask, a mention or foreign HTML, whatever people and programs wrote. The
    clock is no part of it: it changes only when something happened.
    """
    newest, older = pull.replies[-1:], pull.replies[-2::-1]
    fixed = [f"{marker_of(pull)}\n### Cynthus", *map(_open, newest)]
    below = [*_tables(lines, url_of), _FOOTER]
    room = BODY_LIMIT - _size([*fixed, _OLDER_LEFT_OUT, *below])
    return _disarmed("\n\n".join([*fixed, *_folded(older, room), *below]))


def _size(parts: Sequence[str]) -> int:
    # Three bytes a line are kept for the sign that `_disarmed` may put there.
    return sum(len(part.encode()) + 3 * part.count("\n") + 8 for part in parts)


def _disarmed(text: str) -> str:
    """Make sure that no line begins like an ask: some program may read our words again."""
    return _ASK.sub("\\1/\u200b", text)


# ── answers ─────────────────────────────────────────────────────────────────────────────────────


def _open(reply: Reply) -> str:
    done = "pressed" if reply.key.startswith(PRESSED) else "asked"
    said = "was refused" if reply.refused else done
    return f"**{inline(reply.by, 60)}** {said} {code(reply.asked, 200)}\n\n{_text(reply)}"


def _folded(older: Sequence[Reply], room: int) -> list[str]:
    """Return earlier answers, newest first, as many as there is room for."""
    found: list[str] = []
    for reply in older:
        part = _closed(reply)
        room -= _size([part])
        if room < 0:
            return [*found, _OLDER_LEFT_OUT]
        found.append(part)
    return found


def _closed(reply: Reply) -> str:
    said = "refused" if reply.refused else "answered"
    head = f"{escaped(reply.by, 60)}: <code>{escaped(reply.asked, 120)}</code> ({said})"
    return f"<details><summary>{head}</summary>\n\n{_text(reply)}\n\n</details>"


def _text(reply: Reply) -> str:
    """Return the answer; a refusal stands alone here, though others quote it after a name."""
    text = reply.text
    text = text[:1].upper() + text[1:] if reply.refused else text
    return cut_end(text, _REPLY_LIMIT, "_The rest is left out: the answer is too long._")


# ── runs ────────────────────────────────────────────────────────────────────────────────────────


def _tables(lines: Sequence[RunLine], url_of: Callable[[str], str]) -> list[str]:
    swept: dict[str, list[RunLine]] = {}
    plain: list[RunLine] = []
    for line in lines:
        part = line.run.origin.sweep
        (plain if part is None else swept.setdefault(part.id, [])).append(line)
    sweeps = [_sweep(found, url_of) for found in list(swept.values())[:_SWEEPS]]
    return [*([_plain(plain, url_of)] if plain else []), *sweeps]


def _plain(lines: Sequence[RunLine], url_of: Callable[[str], str]) -> str:
    head = ("| run | commit | where it stands | cost | |", "|---|---|---|---:|---|")
    rows = [
        f"| {run_title(line.run)} | {code(line.run.key.commit_sha[:7])} | {standing(line.run)} "
        f"| {_cost(line.run)} | {_links(line, url_of)} |"
        for line in lines[:_ROWS]
    ]
    return "\n".join((*head, *rows))


def run_title(run: Run) -> str:
    """Return a run as people call it, with what was changed of its file."""
    name = run.spec.name if run.spec else run.key.spec_path
    changes = ", ".join(f"{key}={value}" for key, value in run.origin.overrides)
    return _cell(f"{name} #{run.number}", 120) + (f" {_cell(changes, 120)}" if changes else "")


def standing(run: Run) -> str:
    """Return where a run stands in words."""
    if run.state is State.FINISHED:
        ended = (run.outcome or Outcome.FAILED).value.replace("_", " ")
        why = "" if run.outcome is Outcome.SUCCEEDED else f": {inline(run.reason.text, 120)}"
        return ended + why
    if run.hold is not None:
        return f"waits for approval by {inline(run.hold.who, 120)}"
    again = f" (attempt {len(run.attempts)})" if len(run.attempts) > 1 else ""
    offer = run.attempt.offer if run.attempt is not None and run.state not in _IDLE else None
    where = f" on {inline(offer.machine, 60)} in {inline(offer.place, 60)}" if offer else ""
    return f"{run.state.value}{again}{where}"


_IDLE = frozenset({State.BUILDING, State.QUEUED})


def _cost(run: Run) -> str:
    limit = run.spec.resources.max_cost_usd if run.spec else None
    if run.state is State.FINISHED:
        return of_limit(run.cost_usd, limit)
    return "" if limit is None else f"at most {usd_left(limit)}"  # what it cost changes always


def _links(line: RunLine, url_of: Callable[[str], str]) -> str:
    links = [
        ("check", line.check_url),
        ("live view", url_of(line.run.id)),
        ("release", line.run.release_url),
    ]
    return " · ".join(f"[{text}]({link})" for text, link in links if is_link(link))


def is_link(url: str | None) -> bool:
    """Say whether it is an address that can stand in Markdown as it is."""
    return (
        bool(url) and re.fullmatch(r"https?://[^\s()<>\[\]\\\"'`|\x00-\x20]+", str(url)) is not None
    )


def _cell(text: str, limit: int) -> str:
    return code(text.replace("|", "\u00a6"), limit)  # a bar ends a cell even within code


# ── sweeps ──────────────────────────────────────────────────────────────────────────────────────


def _sweep(lines: Sequence[RunLine], url_of: Callable[[str], str]) -> str:
    """Return a sweep's runs with the values that differ and the metrics that they reached."""
    ordered = sorted(lines, key=_index)
    axes = list(dict.fromkeys(key for line in ordered for key, _ in line.run.origin.overrides))
    told = dict.fromkeys(name for line in ordered for name in line.metrics)
    names = [name for name in told if name not in COUNTERS][:_METRICS]
    best = {name: _best(name, ordered) for name in names}
    columns = ["run", *(_cell(axis, 60) for axis in axes), *(_cell(name, 40) for name in names)]
    head = [f"| {' | '.join([*columns, 'where it stands', ''])} |"]
    head.append("|---" * (len(columns) + 2) + "|")
    rows = [
        f"| {' | '.join([*_values(line, axes, names, best), standing(line.run)])} "
        f"| {_links(line, url_of)} |"
        for line in ordered[:_SWEEP_ROWS]
    ]
    more = len(ordered) - _SWEEP_ROWS
    left_out = [f"\n<sub>{more} more runs of this sweep are not shown.</sub>"] if more > 0 else []
    first = ordered[0].run
    part = first.origin.sweep
    count = part.count if part else len(ordered)
    title = f"**Sweep of {code(first.spec.name if first.spec else 'a spec')}**, {count} runs"
    return "\n".join([title, "", *head, *rows, *left_out])


def _index(line: RunLine) -> int:
    return line.run.origin.sweep.index if line.run.origin.sweep else 0


def _values(
    line: RunLine, axes: Sequence[str], names: Sequence[str], best: Mapping[str, str | None]
) -> list[str]:
    given = dict(line.run.origin.overrides)
    cells = [code(f"#{line.run.number}"), *(_cell(given.get(axis, ""), 60) for axis in axes)]
    for name in names:
        value = line.metrics.get(name)
        text = "" if value is None else f"{value:.4g}"
        cells.append(f"**{text}** (best)" if best[name] == line.run.id else text)
    return cells


def _best(name: str, lines: Sequence[RunLine]) -> str | None:
    """Return the run that reached the best value; None: nobody can tell from the metric's name."""
    words = set(_WORD.findall(name.lower()))
    higher, lower = bool(words & _HIGHER), bool(words & _LOWER)
    ended = [line for line in lines if line.run.outcome is Outcome.SUCCEEDED]
    found = [(line.metrics[name], line.run.id) for line in ended if name in line.metrics]
    numbers = [pair for pair in found if isfinite(pair[0])]
    if higher == lower or len(numbers) < 2:  # noqa: PLR2004 - one alone is not the best of them
        return None
    return max(numbers)[1] if higher else min(numbers)[1]
