"""What is kept of a pull request: its head, what was asked there and answered: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.frozen import replace
from cynthus.repository_policy import Verb
from webhook_server.runs.model import SpecFault

MOST_REPLIES = 20  # what a comment holds with room for its table; older answers were read long ago
PRESSED = "button/"  # how the key of a button's reply begins
#: Answers within an hour that somebody who may run nothing gets at one pull request: enough to
#: look around, too few to push others' answers out or to use up the installation's requests.
MOST_ANSWERS, AN_HOUR = 6, timedelta(hours=1)
_SHOWN_SHA = 7  # as GitHub shortens them


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
class FaultAt:
    """A fault of one of the specs: an annotation of the plan."""

    path: str
    fault: SpecFault


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """The plan of one head, as its check run and the answer to `plan` show it."""

    sha: str
    conclusion: str  # success, failure, action_required, neutral
    title: str
    summary: str
    faults: tuple[FaultAt, ...] = ()


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


@dataclass(frozen=True, kw_only=True)
class Unproven:
    """Nobody can say which commit an ask is about; the text says why, and what helps."""

    text: str


# ── heads ───────────────────────────────────────────────────────────────────────────────────────


def with_head(pull: Pull, sha: str, since: datetime | None) -> Pull:
    """Note that GitHub showed a commit as the head at a moment of its own clock. Repeatable.

    Deliveries come in any order, so an older moment changes nothing. The same commit at a newer
    moment counts from then on: what was the head in between may never have been told.
    """
    if since is None or (pull.head is not None and since <= pull.head.since):
        return pull
    return replace(pull, head=Head(sha=sha, since=since))


def proven_head(
    pull: Pull, now_sha: str, *, asked_at: datetime, named: str | None
) -> str | Unproven:
    """Return the commit that an ask is about, when that is beyond doubt.

    A comment does not say which commit its author looked at. It is the head of now only if that
    had been the head before the comment was written, by GitHub's own clock, which counts whole
    seconds: "before" is strict. Otherwise somebody may have pushed between reading and running.
    A commit that is named in full leaves no doubt, and a fork's must be named: its author is a
    stranger. The first digits alone prove nothing: two commits that share seven of them are made
    within minutes (https://people.kernel.org/kees/colliding-with-the-sha-prefix-of-linuxs-initial-git-commit).
    https://docs.github.com/webhooks/webhook-events-and-payloads#issue_comment has no head.
    """
    short = now_sha[:_SHOWN_SHA]
    if named is not None and named.lower() == now_sha:
        return now_sha
    if named is not None and not now_sha.startswith(named.lower()):
        text = f"the head is {short} now, and not {named[:_SHOWN_SHA]}. Look at it and ask again."
        return Unproven(text=text)
    if named is None and pull.fork:
        return Unproven(text=f"the commit of a fork must be named: {short} is the head now.")
    head = pull.head
    if head is not None and head.sha == now_sha and head.since < asked_at:
        return now_sha
    return Unproven(
        text=f"which commit is meant cannot be proven: the head, {short} now, may have moved. "
        f"Look at it and ask again, or name the commit in full: `{now_sha}`."
    )


# ── replies ─────────────────────────────────────────────────────────────────────────────────────


def with_reply(pull: Pull, reply: Reply) -> Pull:
    """Add an answer, and forget the oldest; one that was given stays as it is. Repeatable."""
    if any(one.key == reply.key for one in pull.replies):
        return pull
    return replace(pull, replies=(*pull.replies, reply)[-MOST_REPLIES:])


def is_answered_enough(pull: Pull | None, login: str, now: datetime) -> bool:
    """Say whether somebody was given as many answers lately as those get who may run nothing."""
    replies = pull.replies if pull is not None else ()
    lately = [one for one in replies if one.by == login and now - one.at < AN_HOUR]
    return len(lately) >= MOST_ANSWERS
