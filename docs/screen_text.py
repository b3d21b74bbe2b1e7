"""Write what GitHub was sent as Markdown that looks like the screen which it makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MARKS = {"completed": "", "in_progress": "in progress", "queued": "queued"}


@dataclass
class Check:
    """A check run as GitHub has it."""

    name: str
    sha: str
    status: str = "queued"
    conclusion: str | None = None
    output: dict[str, Any] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    actions: list[dict[str, str]] = field(default_factory=list)

    def take(self, sent: dict[str, Any]) -> None:
        """Take what a request changes; annotations add up."""
        self.status = sent.get("status", self.status)
        self.conclusion = sent.get("conclusion", self.conclusion)
        output = dict(sent.get("output") or {})
        self.annotations += output.pop("annotations", [])
        self.output = output or self.output
        self.actions = sent.get("actions", self.actions)


@dataclass
class Shown:
    """What GitHub shows by the record that the simulator keeps of all requests and answers."""

    exchanges: Path
    checks: dict[int, Check] = field(default_factory=dict)  # by id, in their order
    comments: dict[int, str] = field(default_factory=dict)  # by the pull request's number
    release: dict[str, Any] = field(default_factory=dict)  # the newest
    _read: int = 0

    def look(self) -> Shown:
        """Take what came since the last look."""
        with self.exchanges.open(encoding="utf-8") as lines:
            lines.seek(self._read)
            for line in iter(lines.readline, ""):
                told = json.loads(line)
                if told["method"] in {"POST", "PATCH"} and told["status"] < 300:  # noqa: PLR2004
                    self._take(told["path"], told["request"], told["response"])
            self._read = lines.tell()
        return self

    def _take(self, path: str, sent: dict[str, Any], got: dict[str, Any]) -> None:
        if "/check-runs" in path:
            new = Check(name=got["name"], sha=got["head_sha"])
            self.checks.setdefault(got["id"], new).take(sent)
        elif "/comments" in path and "/reactions" not in path:
            self.comments[int(got["issue_url"].rpartition("/")[2])] = sent["body"]
        elif re.search(r"/releases(/\d+)?$", path) and "body" in sent:
            self.release = got


def check_screen(check: Check) -> str:
    """Return a check run as people see it."""
    stands = check.conclusion or _MARKS[check.status]
    parts = [
        f"**{check.name}** at `{check.sha[:7]}` · _{stands.replace('_', ' ')}_",
        f"**{check.output['title']}**",
        _buttons(check),
        check.output["summary"],
        check.output.get("text", ""),
        "\n".join(_annotations(check)),
    ]
    return quoted("\n\n".join(part for part in parts if part))


def _buttons(check: Check) -> str:
    if check.conclusion is None:
        return ""  # GitHub shows an app's buttons on completed check runs only
    return " ".join(f"<kbd>{action['label']}</kbd>" for action in check.actions)


def _annotations(check: Check) -> Iterator[str]:
    for one in check.annotations:
        yield (
            f"- `{one['path']}:{one['start_line']}` _{one['annotation_level']}_"
            f" **{one.get('title', '')}** {one['message']}"
        )


def quoted(text: str) -> str:
    """Return Markdown as a quotation, so that a screen stands out of the page."""
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())
