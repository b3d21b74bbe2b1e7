"""Say what a delivery asks for: (event name, payload) → Intent. Pure, and never raises.

The payload is signed, the event name is not; so the payload must look like what the name says.
Whatever is missing, null or of another type makes the delivery one that asks for nothing.
https://docs.github.com/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from webhook_server.intents import (
    APPROVE,
    CANCEL,
    EXTEND,
    LOGS,
    RETRY_ON_DEMAND,
    Cancel,
    Commented,
    Ignored,
    InstallationChanged,
    Intent,
    Person,
    Place,
    Pressed,
    PullEnded,
    PullRequest,
    ReleaseChanged,
    RepositoryChanged,
    Rerun,
    StartRun,
)
from webhook_server.payloads import (
    NOTHING,
    Odd,
    branch_of,
    fits,
    id_of,
    ids_of,
    is_id,
    member,
    moment_of,
    sha_of,
    text_of,
)
from webhook_server.runs.comment_lines import holds_an_ask

# GitHub lists the commits of a push up to this number; then what changed is not known from it.
MAX_COMMITS = 2048
_OTHER_BUTTONS = frozenset({EXTEND, RETRY_ON_DEMAND, APPROVE, LOGS})
_FULL_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_LOGIN = re.compile(r"[A-Za-z0-9_\[\]-]{1,100}")
_RUN_ID = re.compile(r"[a-z0-9]{1,16}")
_PULL_SUBJECT = re.compile(r"pull/[1-9][0-9]{0,18}/[1-9][0-9]{0,18}")
# "Ready for review" brings no commit, but what waited for it may run from now on.
_HEAD_ACTIONS = frozenset({"opened", "synchronize", "reopened", "ready_for_review"})
_END_ACTIONS = frozenset({"closed", "converted_to_draft"})
_REPOSITORY_ACTIONS = frozenset(
    {"renamed", "transferred", "deleted", "edited", "privatized", "publicized", "archived"}
)
_RELEASE_ACTIONS = frozenset({"deleted", "unpublished"})
_GONE = frozenset({"deleted", "suspend"})


def intent_of(event: str, payload: Any) -> Intent:
    """Return what the delivery asks for."""
    if not isinstance(payload, Mapping):
        return Ignored(reason="the payload is not an object")
    reader = _READERS.get(event)
    if reader is None:
        return Ignored(reason=f"{event}: not an event that asks for anything")
    try:
        return reader(payload)
    except Odd as odd:
        return Ignored(reason=f"{event}: {odd}")


# ── readers: one an event ───────────────────────────────────────────────────────────────────────


def _push(payload: Mapping[str, Any]) -> Intent:
    place = _place(payload)
    ref = text_of(payload, "ref")
    if "commits" not in payload or "action" in payload:
        raise Odd("the payload is not one of a push")
    if not ref.startswith("refs/heads/"):
        return Ignored(reason="a tag was pushed")
    if payload.get("deleted") is True or payload.get("after") == NOTHING:
        return Ignored(reason="the branch was deleted")
    return StartRun(
        place=place,
        branch=branch_of(ref.removeprefix("refs/heads/")),
        sha=sha_of(payload.get("after")),
        changed=_changed(payload),
        pushed_at=moment_of(member(payload, "repository").get("pushed_at")),
    )


def _changed(payload: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the paths that the push changes; None when the payload cannot tell them."""
    commits = payload.get("commits")
    if not isinstance(commits, list) or len(commits) >= MAX_COMMITS:
        return None
    # A new branch lists the commits that no other branch has; a forced push lists what is new
    # over the old tip, which is not the difference between the two.
    if payload.get("created") is True or payload.get("forced") is True:
        return None
    found: dict[str, None] = {}
    for commit in commits:
        for kind in ("added", "removed", "modified"):
            paths = commit.get(kind) if isinstance(commit, Mapping) else None
            if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
                return None
            found.update(dict.fromkeys(paths))
    return tuple(found)


def _pull_request(payload: Mapping[str, Any]) -> Intent:
    place, action = _place(payload), payload.get("action")
    pull = member(payload, "pull_request")
    if isinstance(action, str) and action in _END_ACTIONS:
        return PullEnded(
            place=place,
            number=id_of(pull.get("number"), "number"),
            sha=sha_of(member(pull, "head").get("sha")),
            drafted=action != "closed",
        )
    if not isinstance(action, str) or action not in _HEAD_ACTIONS:
        return Ignored(reason="the pull request has no new head")
    if pull.get("state") == "closed":
        return Ignored(reason="the pull request is closed")
    return _new_head(payload, place, pull)


def _new_head(payload: Mapping[str, Any], place: Place, pull: Mapping[str, Any]) -> PullRequest:
    head = member(pull, "head")
    repository = head.get("repo")  # null when the fork was deleted
    author = _person(pull.get("user"))
    return PullRequest(
        place=place,
        number=id_of(pull.get("number"), "number"),
        sha=sha_of(head.get("sha")),
        head_repository_id=(
            id_of(repository.get("id"), "head") if isinstance(repository, Mapping) else None
        ),
        sender=_person(payload.get("sender")),
        at=moment_of(pull.get("updated_at")),
        author=author.login if author is not None else "",
        draft=pull.get("draft") is True,
    )


def _issue_comment(payload: Mapping[str, Any]) -> Intent:
    """Read a comment; one at an issue, and one without an ask, costs nothing further.

    Only new comments count: who may edit a comment is not always who wrote it.
    """
    place = _place(payload)
    issue, comment = member(payload, "issue"), member(payload, "comment")
    if payload.get("action") != "created":
        return Ignored(reason="the comment is not a new one")
    if not isinstance(issue.get("pull_request"), Mapping):
        return Ignored(reason="the comment is at an issue")
    body = text_of(comment, "body")
    if not holds_an_ask(body):
        return Ignored(reason="the comment asks for nothing")
    sender, author = _need_sender(payload), _person(comment.get("user"))
    if author is None or author.id != sender.id:
        raise Odd("comment/user: should be the sender")
    created_at = moment_of(comment.get("created_at"))
    if created_at is None:
        raise Odd("comment/created_at: should be a moment")
    return Commented(
        place=place,
        number=id_of(issue.get("number"), "issue/number"),
        comment_id=id_of(comment.get("id"), "comment/id"),
        body=body,
        created_at=created_at,
        sender=sender,
    )


def _check_run(payload: Mapping[str, Any]) -> Intent:
    place, action = _place(payload), payload.get("action")
    check_run = member(payload, "check_run")
    sha = sha_of(check_run.get("head_sha"))
    check_run_id = id_of(check_run.get("id"), "check_run/id")
    external_id = check_run.get("external_id")
    run_id = external_id if fits(external_id, _RUN_ID) else None
    if action == "rerequested":
        return Rerun(
            place=place,
            sha=sha,
            check_run_id=check_run_id,
            check_suite_id=None,
            run_id=run_id,
            sender=_need_sender(payload),
        )
    pressed = _pressed(payload) if action == "requested_action" else ""
    if pressed == CANCEL:
        return Cancel(
            place=place,
            sha=sha,
            check_run_id=check_run_id,
            run_id=run_id,
            sender=_need_sender(payload),
        )
    subject = external_id if fits(external_id, _PULL_SUBJECT) else run_id
    if pressed in _OTHER_BUTTONS and subject is not None:
        return Pressed(
            place=place,
            sha=sha,
            check_run_id=check_run_id,
            identifier=pressed,
            external_id=subject,
            sender=_need_sender(payload),
        )
    return Ignored(reason="nobody asked for anything")


def _pressed(payload: Mapping[str, Any]) -> str:
    asked = payload.get("requested_action")
    identifier = asked.get("identifier") if isinstance(asked, Mapping) else None
    return identifier if isinstance(identifier, str) else ""  # other apps' words come here too


def _check_suite(payload: Mapping[str, Any]) -> Intent:
    place, suite = _place(payload), member(payload, "check_suite")
    if payload.get("action") != "rerequested":
        return Ignored(reason="nobody asked for anything")
    return Rerun(
        place=place,
        sha=sha_of(suite.get("head_sha")),
        check_run_id=None,
        check_suite_id=id_of(suite.get("id"), "check_suite/id"),
        run_id=None,
        sender=_need_sender(payload),
    )


def _repository(payload: Mapping[str, Any]) -> Intent:
    place, action = _place(payload), payload.get("action")
    if not isinstance(action, str) or action not in _REPOSITORY_ACTIONS:
        return Ignored(reason="the repository has no new name")
    return RepositoryChanged(place=place, gone=action == "deleted")


def _release(payload: Mapping[str, Any]) -> Intent:
    place, action = _place(payload), payload.get("action")
    release = member(payload, "release")
    if not isinstance(action, str) or action not in _RELEASE_ACTIONS:
        return Ignored(reason="no release was taken away")
    return ReleaseChanged(
        place=place,
        release_id=id_of(release.get("id"), "release/id"),
        what=action,
        sender=_person(payload.get("sender")),
    )


def _installation(payload: Mapping[str, Any]) -> Intent:
    if "repositories_added" in payload or "repository" in payload:
        raise Odd("the payload is not one of an installation")
    return _installation_changed(payload, added="repositories", removed="")


def _installation_repositories(payload: Mapping[str, Any]) -> Intent:
    if "repositories_added" not in payload or "repositories_removed" not in payload:
        raise Odd("the payload is not one of an installation's repositories")
    return _installation_changed(
        payload, added="repositories_added", removed="repositories_removed"
    )


def _installation_changed(payload: Mapping[str, Any], *, added: str, removed: str) -> Intent:
    action = payload.get("action")
    if not isinstance(action, str):
        raise Odd("action: should be text")
    return InstallationChanged(
        installation_id=id_of(member(payload, "installation").get("id"), "installation/id"),
        gone=action in _GONE,
        removed=ids_of(payload.get(removed)),
        added=ids_of(payload.get(added)),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Intent]] = {
    "push": _push,
    "pull_request": _pull_request,
    "issue_comment": _issue_comment,
    "check_run": _check_run,
    "check_suite": _check_suite,
    "release": _release,
    "repository": _repository,
    "installation": _installation,
    "installation_repositories": _installation_repositories,
}


# ── parts ───────────────────────────────────────────────────────────────────────────────────────


def _place(payload: Mapping[str, Any]) -> Place:
    repository = member(payload, "repository")
    full_name = text_of(repository, "full_name")
    if _FULL_NAME.fullmatch(full_name) is None:
        raise Odd("repository/full_name: should be owner/name")
    return Place(
        id=id_of(repository.get("id"), "repository/id"),
        owner_id=id_of(member(repository, "owner").get("id"), "repository/owner/id"),
        full_name=full_name,
        default_branch=branch_of(text_of(repository, "default_branch")),
        installation_id=_installation_id(payload),
    )


def _installation_id(payload: Mapping[str, Any]) -> int | None:
    installation = payload.get("installation")
    found = installation.get("id") if isinstance(installation, Mapping) else None
    return found if is_id(found) else None


def _person(value: object) -> Person | None:
    if not isinstance(value, Mapping):  # null for a deleted account
        return None
    login, kind = value.get("login"), value.get("type")
    if not fits(login, _LOGIN) or not is_id(value.get("id")):
        return None
    return Person(id=value["id"], login=login, bot=kind != "User")


def sender_of(payload: object) -> Person | None:
    """Return who caused a delivery, where it says so."""
    return _person(payload.get("sender")) if isinstance(payload, Mapping) else None


def _need_sender(payload: Mapping[str, Any]) -> Person:
    sender = _person(payload.get("sender"))
    if sender is None:
        raise Odd("sender: should be somebody")
    return sender
