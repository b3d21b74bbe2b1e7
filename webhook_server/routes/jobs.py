"""Admit workflow jobs by their OIDC tokens."""

from __future__ import annotations

from collections.abc import Callable

from cynthus.wire import RunRequest
from webhook_server.auth.allowed import Allowed
from webhook_server.auth.oidc import (
    Caller,
    Forbidden,
    OidcVerifier,
    PullHead,
    Unauthorised,
    authorise,
)
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.parts import Job
from webhook_server.stores.repository_store import RepositoryStore


class GithubJobs:
    """The gate for jobs of GitHub Actions."""

    def __init__(
        self,
        verifier: OidcVerifier,
        allowed: Allowed,
        *,
        pull_head: Callable[[Caller, int], PullHead],
        repositories: RepositoryStore,
    ) -> None:
        self._verifier, self._allowed = verifier, allowed
        self._pull_head, self._repositories = pull_head, repositories

    def identify(self, token: str) -> Job:
        """Return the job that holds the token. Raises: HttpRefusal (401, 403), Transient."""
        try:
            return self._verifier.caller(token)
        except Unauthorised as error:
            raise HttpRefusal(401, str(error)) from error
        except Forbidden as error:
            raise HttpRefusal(403, str(error)) from error

    def authorise(self, job: Job, request: RunRequest) -> None:
        """Check that the job may ask for this run. Raises: HttpRefusal (403), Transient."""
        assert isinstance(job, Caller)  # noqa: S101 - `identify` made it
        try:
            authorise(job, request, allowed=self._allowed, pull_head=self._pull_head)
        except Forbidden as error:
            raise HttpRefusal(403, str(error)) from error

    def default_branch(self, job: Job) -> str:
        """Return the default branch of the job's repository, empty when it is not known."""
        known = self._repositories.get(job.repository_id)
        return known.default_branch if known else ""
