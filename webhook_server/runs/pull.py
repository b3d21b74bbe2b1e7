"""What is kept of a pull request: its heads, what was asked there and answered: data only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cynthus.repository_policy import Verb
from webhook_server.runs.model import SpecFault


@dataclass(frozen=True, kw_only=True)
class Head:
    """A commit, and the moment from which GitHub surely showed it as the head.

    The moment is GitHub's own (`updated_at` of the delivery that told of it), or ours when we
    asked: a comment is about this head only if it was written later, and no other came since.
    """

    sha: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to one line of a comment, or to a button: shown in the sticky comment."""

    key: str  # `comment/<id>/<line>` or `button/<check run id>/<identifier>`: a repeat adds nothing
    at: datetime  # when it was asked
    by: str  # login
    verb: Verb | None
    asked: str  # the line as it was written
    refused: bool
    text: str  # our Markdown, foreign text in it already made harmless
    run_ids: tuple[str, ...] = ()  # what it started or changed


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """The plan of one head, as its check run and the answer to `plan` show it."""

    sha: str
    conclusion: str  # success, failure, action_required, neutral
    title: str
    summary: str
    faults: tuple[SpecFault, ...] = ()  # annotations
    spec_path: str = "cynthus.yaml"


@dataclass(frozen=True, kw_only=True)
class Pull:
    """One pull request."""

    repository_id: int
    number: int
    repository: str  # owner/name, for people
    author: str = ""
    fork: bool = False  # its commits come from another repository (or one that is gone)
    open: bool = True
    draft: bool = False
    head: Head | None = None
    replies: tuple[Reply, ...] = ()  # oldest first, the newest few
    plan: PlanResult | None = None
