"""Say how a run looks as a GitHub check run: pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cynthus.codec import encode
from webhook_server.runs.annotations import Annotation, notice, of_feed, of_spec
from webhook_server.runs.check_summary import TEXT_LIMIT as TEXT_LIMIT  # noqa: PLC0414 - with BATCH
from webhook_server.runs.check_summary import Around, log_text, summary
from webhook_server.runs.feed_facts import Feed as Feed  # noqa: PLC0414 - what a report is made from
from webhook_server.runs.feed_facts import Moment as Moment  # noqa: PLC0414
from webhook_server.runs.headline import lasting, title
from webhook_server.runs.model import Run
from webhook_server.runs.sizing import remark
from webhook_server.runs.spark import sparkline as sparkline  # noqa: PLC0414 - of releases too
from webhook_server.runs.standing import Button, buttons, name_of, standing
from webhook_server.runs.standing import conclusion_of as conclusion_of  # noqa: PLC0414
from webhook_server.runs.standing import status_of as status_of  # noqa: PLC0414
from webhook_server.runs.terms import started_at

BATCH = 50  # annotations a request; https://docs.github.com/rest/checks/runs#create-a-check-run
_ALONE = Around()


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
    actions: tuple[Button, ...]
    digest: str

    def body(self, sent_annotations: int) -> dict[str, Any]:
        """Return GitHub's request body, with the next batch of annotations."""
        batch = self.annotations[sent_annotations : sent_annotations + BATCH]
        output: dict[str, Any] = {"title": self.title, "summary": self.summary}
        if self.text:
            output["text"] = self.text
        if batch:
            output["annotations"] = [item.body() for item in batch]
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


def check_run(
    run: Run, feed: Feed, *, url: str, now: datetime, around: Around = _ALONE
) -> CheckRun:
    """Return the check run that shows this run now."""
    status, conclusion = standing(run)
    whole, text = summary(run, feed, around, url), log_text(feed, url)
    annotations = tuple(_annotations(run, feed, around))
    actions = buttons(run)
    shown = [status, conclusion, lasting(run, feed, now), whole, text, len(annotations), actions]
    return CheckRun(
        name=name_of(run, around.original),
        head_sha=run.key.commit_sha,
        external_id=run.id,
        details_url=url,
        status=status,
        conclusion=conclusion,
        started_at=started_at(run) or run.created_at,
        completed_at=(run.finished_at or run.state_since) if conclusion else None,
        title=title(run, feed, now),
        summary=whole,
        text=text,
        annotations=annotations,
        actions=actions,
        digest=_digest(shown),
    )


def lost_run(name: str, head_sha: str, run_id: str, *, note: str, now: datetime) -> CheckRun:
    """Return the end of a check run whose run's record nobody can read any more."""
    summary = f"{note}."
    return CheckRun(
        name=name,
        head_sha=head_sha,
        external_id=run_id,
        details_url="",
        status="completed",
        conclusion="failure",
        started_at=now,
        completed_at=now,
        title="the server has lost this run",
        summary=summary,
        text="",
        annotations=(),
        actions=(),
        digest=_digest([name, head_sha, summary]),
    )


def _annotations(run: Run, feed: Feed, around: Around) -> Iterator[Annotation]:
    yield from of_spec(run)
    yield from of_feed(run, feed)
    # Last: what was sent before the advice came keeps its place.
    advice = around.advice
    if advice is not None and advice.line is not None:
        yield notice(run.key.spec_path, advice.line, "A cheaper machine would do", remark(advice))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _digest(parts: list[Any]) -> str:
    text = json.dumps(encode(parts), ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
