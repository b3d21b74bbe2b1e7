"""Admit workflow jobs by their OIDC tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cynthus.wire import RunRequest
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.oidc import (
    Caller,
    Forbidden,
    Lookups,
    OidcVerifier,
    PullHead,
    admit,
    authorise,
)
from webhook_server.auth.signed_tokens import Unauthorised
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.parts import Job
from webhook_server.runs.model import RunKey


class JobRepositories(Protocol):
    """What GitHub says of the repositories that jobs come from."""

    def default_branch(self, caller: Caller) -> str:
        """Return the default branch; raises Transient."""

    def pull_head(self, caller: Caller, number: int) -> PullHead:
        """Return a pull request's head; raises Transient."""


class GithubJobs:
    """The gate for jobs of GitHub Actions."""

    def __init__(
        self,
        verifier: OidcVerifier,
        allowed: Allowed,
        repositories: JobRepositories,
        waits: Callable[[RunKey], bool],
    ) -> None:
        self._verifier, self._allowed, self._repositories = verifier, allowed, repositories
        self._lookups = Lookups(
            pull_head=repositories.pull_head,
            default_branch=repositories.default_branch,
            waits=waits,
        )

    def identify(self, token: str) -> Job:
        """Return the job that holds the token. Raises: HttpRefusal (401, 403), Transient."""
        try:
            return self._verifier.caller(token)
        except Unauthorised as error:
            raise HttpRefusal(401, str(error)) from error
        except Forbidden as error:
            raise HttpRefusal(403, str(error)) from error

    def admit(self, job: Job, workflow_run_url: str | None = None) -> None:
        """Check that the job may use this server. Raises: HttpRefusal (403)."""
        try:
            admit(_caller(job), allowed=self._allowed, workflow_run_url=workflow_run_url)
        except Forbidden as error:
            raise HttpRefusal(403, str(error)) from error

    def authorise(self, job: Job, request: RunRequest) -> None:
        """Check that the job may ask for this run. Raises: HttpRefusal (403), Transient."""
        try:
            authorise(_caller(job), request, allowed=self._allowed, lookups=self._lookups)
        except Forbidden as error:
            raise HttpRefusal(403, str(error)) from error

    def default_branch(self, job: Job) -> str:
        """Return the default branch of the job's repository. Raises: Transient."""
        return self._repositories.default_branch(_caller(job))


def _caller(job: Job) -> Caller:
    if not isinstance(job, Caller):
        raise TypeError("a job comes from `identify`")
    return job
