"""Say how a run looks as a GitHub check run: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, assert_never

from cynthus.codec import encode
from cynthus.money import of_limit
from cynthus.wire import Mark
from webhook_server.runs.attempts import kept_notice, span, table
from webhook_server.runs.hostile import clean, code, cut_middle, fenced, inline, markdown
from webhook_server.runs.limits import cost
from webhook_server.runs.model import Outcome, Run, State

# https://docs.github.com/rest/checks/runs#create-a-check-run
TEXT_LIMIT = 65_535  # of `summary` and of `text`; counted here in bytes, which is never less
BATCH = 50  # annotations a request
_TITLE_LIMIT = 200
_MESSAGE_LIMIT = 8_000  # GitHub takes 64 KB; a person reads the first lines
_LABEL_LIMIT = 255
_SUMMARY_LIMIT = 40_000  # of the user's own Markdown: our tables stay visible above it
_LOG_LIMIT = 60_000
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 24
_METRICS = 40  # rows of the table; metrics.json has them all
_TIMELINE = 40
_NOTICES = 20
_LAST_LINE = 10_000_000  # of any real file; GitHub refuses what is no 32-bit number


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One line of the timeline."""

    at: datetime
    text: str


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What the run's feed tells, newest facts and short histories."""

    progress: float | None = None  # 0…1
    phase: str | None = None
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    summary: str | None = None
    notices: tuple[str, ...] = ()
    annotations: tuple[Mapping[str, object], ...] = ()
    timeline: tuple[Moment, ...] = ()
    log_tail: str = ""
    marks: Mapping[int, Sequence[Mark]] = field(default_factory=dict)  # by attempt


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A remark on a line of a file."""

    path: str
    line: int
    column: int | None
    level: str  # notice, warning, failure
    message: str
    title: str


@dataclass(frozen=True, kw_only=True)
class CheckRun:
    """A check run as it should be. `digest` ignores what only the clock changes."""

    name: str
    head_sha: str
    external_id: str
    details_url: str
    status: str
    conclusion: str | None
    started_at: datetime
    completed_at: datetime | None
    title: str
    summary: str
    text: str
    annotations: tuple[Annotation, ...]
    actions: tuple[Mapping[str, str], ...]
    digest: str

    def body(self, sent_annotations: int) -> dict[str, Any]:
        """Return GitHub's request body, with the next batch of annotations."""
        batch = self.annotations[sent_annotations : sent_annotations + BATCH]
        output: dict[str, Any] = {"title": self.title, "summary": self.summary}
        if self.text:
            output["text"] = self.text
        if batch:
            output["annotations"] = [_annotation_body(item) for item in batch]
        body: dict[str, Any] = {
            "name": self.name,
            "external_id": self.external_id,
            "status": self.status,
            "started_at": _stamp(self.started_at),
            "output": output,
            "actions": [dict(action) for action in self.actions],
        }
        if self.details_url.startswith(("https://", "http://")):
            body["details_url"] = self.details_url
        if self.conclusion and self.completed_at:
            body["conclusion"] = self.conclusion
            body["completed_at"] = _stamp(self.completed_at)
        return body


def check_run(run: Run, feed: Feed, *, url: str, now: datetime) -> CheckRun:
    """Return the check run that shows this run now."""
    title = _title(run, feed)
    summary, text = _summary(run, feed, url), _text(feed, url)
    annotations = (*_of_spec(run), *_of_feed(run, feed))
    conclusion = conclusion_of(run.outcome) if run.state is State.FINISHED else None
    digest = _digest([status_of(run.state), conclusion, title, summary, text, len(annotations)])
    return CheckRun(
        name=name_of(run),
        head_sha=run.key.commit_sha,
        external_id=run.id,
        details_url=url,
        status=status_of(run.state),
        conclusion=conclusion,
        started_at=_started_at(run),
        completed_at=(run.finished_at or run.state_since) if conclusion else None,
        title=cut_middle(f"{title} · {_clock(run, now)}", _TITLE_LIMIT),
        summary=summary,
        text=text,
        annotations=annotations,
        actions=_actions(run),
        digest=digest,
    )


def name_of(run: Run) -> str:
    """Return the check run's name; required checks are chosen by it, so it never changes."""
    return f"cynthus/{run.spec.name}" if run.spec else "cynthus"


def status_of(state: State) -> str:
    """Return GitHub's word for where a run stands."""
    match state:
        case State.BUILDING | State.QUEUED:
            return "queued"
        case State.PROVISIONING | State.RUNNING | State.COLLECTING | State.RELEASING:
            return "in_progress"
        case State.FINISHED:
            return "completed"
        case _:
            assert_never(state)


def conclusion_of(outcome: Outcome | None) -> str:
    """Return GitHub's word for how a run ended."""
    match outcome:
        case Outcome.SUCCEEDED:
            return "success"
        case Outcome.FAILED | Outcome.INFRASTRUCTURE | None:
            return "failure"
        case Outcome.CANCELLED:
            return "cancelled"
        case Outcome.TIMED_OUT:
            return "timed_out"
        case Outcome.OVER_BUDGET:
            return "action_required"  # only a person can raise the limit
        case _:
            assert_never(outcome)


def _started_at(run: Run) -> datetime:
    started = [attempt.started_at for attempt in run.attempts if attempt.started_at]
    return min(started, default=run.created_at)


def _actions(run: Run) -> tuple[Mapping[str, str], ...]:
    # A finished run has GitHub's own "Re-run".
    if run.state is State.FINISHED:
        return ()
    return ({"label": "Cancel", "description": "Stop this run now", "identifier": "cancel"},)


# ── the title ───────────────────────────────────────────────────────────────────────────────────


def _title(run: Run, feed: Feed) -> str:
    words = [_state_words(run)]
    if run.state is State.RUNNING:
        words += [clean(feed.phase).strip()] if feed.phase else []
        words += [f"{feed.progress:.0%}"] if feed.progress is not None else []
    if run.state in (State.RUNNING, State.FINISHED):
        words += _headline(feed)
    return " · ".join(" ".join(word.split()) for word in words if word)


def _state_words(run: Run) -> str:
    if run.state is not State.FINISHED:
        again = f" (attempt {len(run.attempts)})" if len(run.attempts) > 1 else ""
        return f"{run.state.value}{again}"
    ended = (run.outcome or Outcome.FAILED).value.replace("_", " ")
    if run.outcome is Outcome.SUCCEEDED:
        return ended
    return f"{ended}: {clean(run.reason.text)[:100].rstrip('. ')}"


def _headline(feed: Feed) -> list[str]:
    newest = [(name, values[-1]) for name, values in feed.metrics.items() if values]
    return [f"{clean(name)[:24]} {_number(value)}" for name, value in newest[:2]]


def _clock(run: Run, now: datetime) -> str:
    ends = run.finished_at or now
    spent = run.cost_usd if run.state is State.FINISHED else cost(run, now)
    return f"{span(ends - _started_at(run))} · {_money(run, spent)}"


def _money(run: Run, spent: Decimal) -> str:
    return of_limit(spent, run.spec.resources.max_cost_usd if run.spec else None)


def _number(value: float) -> str:
    return f"{value:.4g}"


# ── the summary ─────────────────────────────────────────────────────────────────────────────────


def _summary(run: Run, feed: Feed, url: str) -> str:
    parts = [
        _reason(run),
        _notices(run, feed),
        _faults(run),
        _metrics(feed),
        _timeline(feed),
        table(run, feed.marks),
        _facts(run),
        _links(run, url),
        _own(feed, url),
    ]
    whole = "\n\n".join(part for part in parts if part)
    return cut_middle(whole, TEXT_LIMIT, f"See {url} ")


def _reason(run: Run) -> str:
    return f"**{run.state.value}** — {inline(run.reason.text)}"


def _notices(run: Run, feed: Feed) -> str:
    found = dict.fromkeys((*run.notices, *feed.notices))
    found |= dict.fromkeys(note for note in (run.release_note, kept_notice(run)) if note)
    return "\n".join(f"> {inline(text)}" for text in list(found)[:_NOTICES])


def _faults(run: Run) -> str:
    lines = [
        f"- {code(f'{run.key.spec_path}:{fault.line}:{fault.column}')} {inline(fault.text)}"
        for fault in run.spec_faults[:BATCH]
    ]
    return "\n".join(["### The spec cannot be used", *lines]) if lines else ""


def _metrics(feed: Feed) -> str:
    rows = [
        f"| {inline(name, 60)} | {_number(values[-1])} | {sparkline(values)} |"
        for name, values in list(feed.metrics.items())[:_METRICS]
        if values
    ]
    if not rows:
        return ""
    return "\n".join(["### Metrics", "| metric | last | course |", "|---|---:|---|", *rows])


def sparkline(values: Sequence[float]) -> str:
    """Return the course of a metric in one word; each sign is the mean of its share."""
    width = min(_SPARK_WIDTH, len(values))
    if width < 2:  # noqa: PLR2004 - one point has no course
        return ""
    edges = [len(values) * i // width for i in range(width + 1)]
    means = [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((mean - low) * scale)] for mean in means)


def _timeline(feed: Feed) -> str:
    moments = feed.timeline[-_TIMELINE:]
    if not moments:
        return ""
    ends = [moment.at for moment in moments[1:]]
    took = [span(end - moment.at) for end, moment in zip(ends, moments, strict=False)]
    rows = [
        f"| {moment.at:%H:%M:%S} | {inline(moment.text, 120)} | {length} |"
        for moment, length in zip(moments, [*took, ""], strict=True)
    ]
    return "\n".join(["### Timeline (UTC)", "| at | what | took |", "|---|---|---:|", *rows])


def _facts(run: Run) -> str:
    facts = [f"cost so far {_money(run, run.cost_usd)}" if run.attempts else ""]
    if run.attempt and run.attempt.offer.price_source:
        facts.append(f"an estimate by {inline(run.attempt.offer.price_source, 120)}")
    if run.image:
        facts.append(f"image {code(run.image)}")
    stored = [output for output in run.outputs or () if output.left_out is None]
    if run.outputs is not None:
        facts.append(f"{len(stored)} output files")
    left_out = [output for output in run.outputs or () if output.left_out]
    lines = [f"- left out: {code(o.path)}: {inline(o.left_out or '', 200)}" for o in left_out[:20]]
    return "\n".join([" · ".join(fact for fact in facts if fact), *lines]).strip()


def _links(run: Run, url: str) -> str:
    links = [
        ("live view", url),
        ("workflow run", run.workflow_run_url),
        ("release", run.release_url),
    ]
    return " · ".join(f"[{text}]({link})" for text, link in links if _is_link(link))


def _is_link(url: str | None) -> bool:
    return bool(url) and str(url).startswith(("https://", "http://")) and not _breaks(str(url))


def _breaks(url: str) -> bool:
    return any(character in "()<>[]\\\"' \t\r\n`" or ord(character) < ord("!") for character in url)


def _own(feed: Feed, url: str) -> str:
    # Last of all: whatever a user's Markdown leaves open ends with the page.
    if not feed.summary:
        return ""
    own = cut_middle(feed.summary, _SUMMARY_LIMIT, f"See {url} ")
    return f"### Summary\n\n{markdown(own)}"


def _text(feed: Feed, url: str) -> str:
    if not feed.log_tail:
        return ""
    log = cut_middle(clean(feed.log_tail), _LOG_LIMIT)
    return cut_middle(f"### End of the log\n\n{fenced(log)}", TEXT_LIMIT, f"See {url} ")


# ── annotations ─────────────────────────────────────────────────────────────────────────────────


def _of_spec(run: Run) -> Iterable[Annotation]:
    for fault in run.spec_faults:
        yield Annotation(
            path=run.key.spec_path,
            line=max(fault.line, 1),
            column=fault.column if fault.column > 0 else None,
            level="failure",
            message=_message(fault.text),
            title="The spec cannot be used",
        )


def _of_feed(run: Run, feed: Feed) -> Iterable[Annotation]:
    for body in feed.annotations:
        path = _repository_path(body.get("file"))
        line, level = body.get("line"), body.get("level")
        yield Annotation(
            path=path or run.key.spec_path,
            line=line if path and isinstance(line, int) and 0 < line < _LAST_LINE else 1,
            column=None,
            level=level if level in ("notice", "warning", "failure") else "notice",
            message=_message(body.get("text")),
            title=_one_line(body.get("title")),
        )


def _repository_path(value: object) -> str | None:
    """Return the path as the repository has it; None: it is not one of its files."""
    if not isinstance(value, str) or len(value) > _LABEL_LIMIT or value != clean(value):
        return None
    path = PurePosixPath(value.removeprefix("/workspace/"))
    odd = path.is_absolute() or ".." in path.parts or not path.parts
    return None if odd else str(path)


def _message(value: object) -> str:
    text = clean(value) if isinstance(value, str) else ""
    return cut_middle(text.strip(), _MESSAGE_LIMIT) or "(no text)"


def _one_line(value: object) -> str:
    text = " ".join(clean(value).split()) if isinstance(value, str) else ""
    return text[:_LABEL_LIMIT]


def _annotation_body(item: Annotation) -> dict[str, Any]:
    body: dict[str, Any] = {
        "path": item.path,
        "start_line": item.line,
        "end_line": item.line,
        "annotation_level": item.level,
        "message": item.message,
    }
    if item.column:
        body |= {"start_column": item.column, "end_column": item.column}
    if item.title:
        body["title"] = item.title
    return body


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _digest(parts: list[Any]) -> str:
    text = json.dumps(encode(parts), ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
