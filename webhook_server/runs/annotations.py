"""Make remarks on lines of files out of a spec's faults, a run's feed and our advice: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from webhook_server.runs.feed_facts import Feed
from webhook_server.runs.hostile import clean, cut_middle
from webhook_server.runs.model import Run

_MESSAGE_LIMIT = 8_000  # bytes: GitHub takes 64 KB; a person reads the first lines
_TITLE_LIMIT = 255  # signs; https://docs.github.com/rest/checks/runs#create-a-check-run
_LAST_LINE = 10_000_000  # of any real file; GitHub refuses what is no 32-bit number


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A remark on a line of a file."""

    path: str
    line: int
    column: int | None
    level: str  # notice, warning, failure
    message: str
    title: str

    def body(self) -> dict[str, Any]:
        """Return it as GitHub's request has it."""
        body: dict[str, Any] = {
            "path": self.path,
            "start_line": self.line,
            "end_line": self.line,
            "annotation_level": self.level,
            "message": self.message,
        }
        if self.column:
            body |= {"start_column": self.column, "end_column": self.column}
        if self.title:
            body["title"] = self.title
        return body


def of_spec(run: Run) -> Iterable[Annotation]:
    """Return the faults of the spec on their lines."""
    for fault in run.spec_faults:
        yield Annotation(
            path=run.key.spec_path,
            line=max(fault.line, 1),
            column=fault.column if fault.column > 0 else None,
            level="failure",
            message=_message(fault.text),
            title="The spec cannot be used",
        )


def of_feed(run: Run, feed: Feed) -> Iterable[Annotation]:
    """Return what the command remarked; on the spec's first line what is on no file's line."""
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


def notice(path: str, line: int, title: str, message: str) -> Annotation:
    """Return a remark of ours."""
    return Annotation(
        path=path,
        line=max(line, 1),
        column=None,
        level="notice",
        message=_message(message),
        title=_one_line(title),
    )


def _repository_path(value: object) -> str | None:
    """Return the path as the repository has it; None: it is not one of its files."""
    if not isinstance(value, str) or len(value) > _TITLE_LIMIT or value != clean(value):
        return None
    path = PurePosixPath(value.removeprefix("/workspace/"))
    odd = path.is_absolute() or ".." in path.parts or not path.parts
    return None if odd else str(path)


def _message(value: object) -> str:
    text = clean(value) if isinstance(value, str) else ""
    return cut_middle(text.strip(), _MESSAGE_LIMIT) or "(no text)"


def _one_line(value: object) -> str:
    text = " ".join(clean(value).split()) if isinstance(value, str) else ""
    return text[:_TITLE_LIMIT]
