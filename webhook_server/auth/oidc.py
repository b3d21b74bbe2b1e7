"""Say which workflow job sent a run request, and whether it may: GitHub's OIDC tokens.

https://docs.github.com/actions/reference/security/oidc
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cynthus.errors import CynthusError
from cynthus.wire import DISPATCH, RunRequest, trigger_for
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.jwks import IssuerKeys
from webhook_server.auth.signed_tokens import LEEWAY, Unauthorised, moment, proven, text
from webhook_server.runs.model import RunKey

# GitHub's live 5 minutes; nbf lies up to 10 before iat. More is no token of a workflow job.
MAX_LIFE = timedelta(minutes=20)
_ID = re.compile(r"[1-9][0-9]{0,18}")
_SHA = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"refs/(?:heads|tags|pull)/[^\x00-\x20\x7f~^:?*\[\\]{1,240}")
_FULL_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_JTI = re.compile(r"[\x21-\x7e]{8,255}")
_MAX_ID = 2**63 - 1  # what the database's BIGINT holds
# Trusted triggers only: `pull_request_target`, `workflow_run` and `issue_comment` run with the
# base repository's rights on what a stranger wrote. A dispatch is sent by who may write contents,
# and counts only where a run waits for exactly what it brings.
_EVENTS = frozenset({"push", "pull_request", "workflow_dispatch", "schedule", DISPATCH})


class Forbidden(CynthusError):  # noqa: N818 - reads as what it is
    """A good token that may not do this: 403; one text for "unknown" and "not yours"."""


@dataclass(frozen=True, kw_only=True)
class PullHead:
    """What GitHub says a pull request's head is now."""

    sha: str
    repository_id: int | None  # None: the fork is gone


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A workflow job, as its token proves it."""

    repository_id: int
    owner_id: int
    repository: str  # owner/name at present; the ids are the identity
    sha: str  # of the token; for a pull request its merge commit
    ref: str
    event: str
    actor: str
    run_id: str
    run_attempt: int
    jti: str
    expires_at: datetime
    public: bool
    runner: str  # github-hosted, self-hosted

    @property
    def pull_request(self) -> int | None:
        """Return the number in `refs/pull/N/merge`."""
        found = re.fullmatch(r"refs/pull/([1-9][0-9]{0,9})/merge", self.ref)
        return int(found[1]) if found and self.event == "pull_request" else None


class OidcVerifier:
    """Verify tokens of one issuer for one audience."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        fetch: Callable[[str], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._issuer, self._audience, self._now = issuer, audience, now
        self._keys = IssuerKeys(f"{issuer}/.well-known/jwks", fetch=fetch, now=now)

    def caller(self, token: str) -> Caller:
        """Return who holds this token.

        Raises: Unauthorised; Transient when the issuer's keys cannot be read. Does not mark the
        token as used: that is part of the transaction which accepts the run.
        """
        claims = proven(token, self._keys)
        self._check_issue(claims)
        expires_at = self._check_times(claims)
        caller = _caller(claims, expires_at)
        _check_subject(claims, caller)
        return caller

    def _check_issue(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") != self._issuer:
            raise Unauthorised("token: comes from another issuer. See CYNTHUS_OIDC_ISSUER.")
        # A list that also names us is refused: such a token was meant for others too.
        if claims.get("aud") != self._audience:
            raise Unauthorised(
                "token: is meant for another audience. Ask for the audience that the server names."
            )

    def _check_times(self, claims: Mapping[str, Any]) -> datetime:
        now = self._now()
        issued, begins, ends = (moment(claims, name) for name in ("iat", "nbf", "exp"))
        if ends - issued > MAX_LIFE or ends <= issued:
            raise Unauthorised("token: lives longer than a workflow job's token does.")
        if ends + LEEWAY <= now:
            raise Unauthorised("token: has expired. Ask for a new one.")
        if max(begins, issued) - LEEWAY > now:
            raise Unauthorised("token: is not good yet. Compare the clocks.")
        return ends


def admit(caller: Caller, *, allowed: Allowed, workflow_run_url: str | None = None) -> None:
    """Check that this job may use the server at all, and speaks for its own workflow run only.

    Raises: Forbidden.
    """
    if not allowed.permits(caller.repository_id, caller.owner_id, caller.repository):
        raise Forbidden(_UNKNOWN)
    if caller.runner != "github-hosted" and caller.public:
        raise Forbidden("token: comes from a self-hosted runner of a public repository.")
    _check_workflow_run(caller, workflow_run_url)


@dataclass(frozen=True, kw_only=True)
class Lookups:
    """What is asked of others about a job; the first two raise Transient."""

    pull_head: Callable[[Caller, int], PullHead]
    default_branch: Callable[[Caller], str]  # empty: not known
    waits: Callable[[RunKey], bool]  # a run of this key wants a build and has no image yet


def authorise(caller: Caller, request: RunRequest, *, allowed: Allowed, lookups: Lookups) -> None:
    """Check that this job may ask for exactly this run; the body never overrides the token.

    Raises: Forbidden; Transient when GitHub cannot be asked for a pull request's head.
    """
    admit(caller, allowed=allowed, workflow_run_url=request.workflow_run_url)
    if request.repository_id != caller.repository_id:
        raise Forbidden(_UNKNOWN)
    _check_equal("event", request.event, caller.event)
    _check_equal("ref", request.ref, caller.ref)
    if caller.event == DISPATCH:
        _check_asked_for(caller, request, lookups)
        return
    _check_equal("pull_request", request.pull_request, caller.pull_request)
    trigger = trigger_for(
        caller.event,
        pull_request=caller.pull_request,
        workflow_run_id=caller.run_id,
        run_attempt=caller.run_attempt,
    )
    _check_equal("trigger", request.trigger, trigger)
    _check_commit(caller, request, lookups.pull_head)


def _check_asked_for(caller: Caller, request: RunRequest, lookups: Lookups) -> None:
    """Check that the server itself asked for this build.

    The token of a dispatch speaks of the default branch's newest commit and knows nothing of the
    commit that was built: what may be brought is what a run waits for, by the whole of its key.
    https://docs.github.com/actions/reference/workflows-and-actions/events-that-trigger-workflows#repository_dispatch
    """
    branch = lookups.default_branch(caller)
    if not branch or caller.ref != f"refs/heads/{branch}":
        raise Forbidden("ref: should be the default branch, whose workflows alone are dispatched.")
    key = RunKey(
        repository_id=caller.repository_id,
        commit_sha=request.commit_sha,
        spec_path=request.spec_path,
        trigger=request.trigger,
    )
    if not lookups.waits(key):
        raise Forbidden(
            "trigger: should be of a run that waits for its image, found none. It may have ended, "
            "or have an image by now."
        )


_UNKNOWN = "repository: is not known to this server. See CYNTHUS_ALLOWED."


def _check_equal(name: str, found: object, proven: object) -> None:
    if found != proven:
        raise Forbidden(f"{name}: should be the token's own. Send what the workflow job was given.")


def _check_workflow_run(caller: Caller, url: str | None) -> None:
    tail = f"/{caller.repository}/actions/runs/{caller.run_id}"
    if url is not None and not re.fullmatch(
        rf"https?://[A-Za-z0-9.:\[\]-]{{1,255}}{re.escape(tail)}(?:/attempts/[0-9]{{1,9}})?", url
    ):
        raise Forbidden("workflow_run_url: should be this job's workflow run.")


def _check_commit(
    caller: Caller, request: RunRequest, pull_head: Callable[[Caller, int], PullHead]
) -> None:
    if caller.event != "pull_request":
        _check_equal("commit_sha", request.commit_sha, caller.sha)
        return
    number = caller.pull_request
    if number is None:
        raise Forbidden("ref: should be refs/pull/N/merge for a pull request.")
    head = pull_head(caller, number)  # the token names the merge commit only
    if head.repository_id != caller.repository_id:
        raise Forbidden("pull_request: comes from a fork; forks do not start runs.")
    if head.sha != request.commit_sha:
        raise Forbidden("commit_sha: should be the pull request's newest commit.")


def _caller(claims: Mapping[str, Any], expires_at: datetime) -> Caller:
    repository = text(claims, "repository", _FULL_NAME)
    owner = text(claims, "repository_owner", re.compile(r"[A-Za-z0-9._-]{1,100}"))
    if repository.partition("/")[0].lower() != owner.lower():
        raise Unauthorised("token: the claims `repository` and `repository_owner` disagree.")
    event = text(claims, "event_name", re.compile(r"[a-z_]{1,64}"))
    if event not in _EVENTS:
        raise Forbidden(f"event: {event} does not start runs. Use push or pull_request.")
    ref = text(claims, "ref", _REF)
    _check_workflow(claims, repository, ref)
    return Caller(
        repository_id=_id(claims, "repository_id"),
        owner_id=_id(claims, "repository_owner_id"),
        repository=repository,
        sha=text(claims, "sha", _SHA),
        ref=ref,
        event=event,
        actor=text(claims, "actor", re.compile(r"[A-Za-z0-9._\[\]-]{1,100}")),
        run_id=str(_id(claims, "run_id")),
        run_attempt=_id(claims, "run_attempt"),
        jti=text(claims, "jti", _JTI),
        expires_at=expires_at,
        public=claims.get("repository_visibility", "public") == "public",
        runner=text(claims, "runner_environment", re.compile(r"[a-z-]{1,32}")),
    )


def _check_workflow(claims: Mapping[str, Any], repository: str, ref: str) -> None:
    """Refuse a workflow that is not this repository's own, at the very ref that it runs for."""
    for name in ("workflow_ref", "job_workflow_ref"):
        if name == "job_workflow_ref" and name not in claims:
            continue
        value = claims.get(name)
        path, _, at = value.partition("@") if isinstance(value, str) else ("", "", "")
        found = re.fullmatch(r"([^/]+/[^/]+)/\.github/workflows/[^/@\x00-\x1f]{1,200}", path)
        if found is None or found[1].lower() != repository.lower() or at != ref:
            raise Forbidden(f"{name}: should be a workflow of this repository at {ref!r}.")


def _id(claims: Mapping[str, Any], name: str) -> int:
    number = int(text(claims, name, _ID))  # GitHub writes ids as text
    if number > _MAX_ID:
        raise Unauthorised(f"token: the claim `{name}` is missing or misshapen.")
    return number


_SUBJECT = re.compile(r"repo:([^/@:]+)(?:@([0-9]+))?/([^/@:]+)(?:@([0-9]+))?:.+", re.DOTALL)


def _check_subject(claims: Mapping[str, Any], caller: Caller) -> None:
    """Cross-check `sub`, in either of GitHub's forms; it is not what the identity rests on.

    `repo:OWNER/REPO:…`, and `repo:OWNER@ID/REPO@ID:…` since 2026-07-15. A repository may shape
    its own: then there is nothing to compare.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Unauthorised("token: the claim `sub` is missing or misshapen.")
    if not subject.startswith("repo:"):
        return
    found = _SUBJECT.fullmatch(subject)
    if found is None:
        raise Unauthorised("token: the claim `sub` is missing or misshapen.")
    owner, owner_id, name, repository_id = found.groups()
    same_name = f"{owner}/{name}".lower() == caller.repository.lower()
    same_owner = owner_id in (None, str(caller.owner_id))
    same_repository = repository_id in (None, str(caller.repository_id))
    both_or_none = (owner_id is None) == (repository_id is None)
    if not (same_name and same_owner and same_repository and both_or_none):
        raise Unauthorised("token: the claim `sub` names another repository.")
