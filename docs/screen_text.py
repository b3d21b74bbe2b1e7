"""Write what GitHub was sent as Markdown that looks like the screen which it makes."""

from __future__ import annotations

import json
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


def checks_of(exchanges: Path) -> list[Check]:
    """Return all check runs that were made, in their order, from the simulator's own record."""
    found: dict[int, Check] = {}
    for line in exchanges.read_text("utf-8").splitlines():
        told = json.loads(line)
        if "/check-runs" not in told["path"] or told["method"] == "GET" or told["status"] >= 300:  # noqa: PLR2004
            continue
        sent, number = told["request"], told["response"]["id"]
        if told["method"] == "POST":
            found[number] = Check(name=sent["name"], sha=sent["head_sha"])
        found[number].take(sent)
    return list(found.values())


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
