"""What deliveries ask for: data only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

# Identifiers of the buttons on our check runs: what GitHub sends back when one is pressed.
CANCEL = "cancel"
EXTEND = "extend"
RETRY_ON_DEMAND = "retry_on_demand"
APPROVE = "approve"
LOGS = "logs"


@dataclass(frozen=True, kw_only=True)
class Place:
    """The repository a delivery speaks of; the id is its identity, the names are for people."""

    id: int
    owner_id: int
    full_name: str
    default_branch: str
    installation_id: int | None


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who caused a delivery."""

    id: int
    login: str
    bot: bool


@dataclass(frozen=True, kw_only=True)
class StartRun:
    """A branch was pushed."""

    place: Place
    branch: str
    sha: str
    changed: tuple[str, ...] | None  # None: not known
    pushed_at: datetime | None

    @property
    def ref(self) -> str:
        """Return the branch's full name."""
        return f"refs/heads/{self.branch}"


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """A pull request has a new head."""

    place: Place
    number: int
    sha: str
    head_repository_id: int | None  # None: the fork was deleted
    sender: Person | None
    at: datetime | None = None  # GitHub's own: from here on this surely was the head
    author: str = ""
    draft: bool = False


@dataclass(frozen=True, kw_only=True)
class PullEnded:
    """A pull request was closed or merged, or became a draft: nothing new runs for it."""

    place: Place
    number: int
    sha: str
    drafted: bool  # False: closed


@dataclass(frozen=True, kw_only=True)
class Commented:
    """Somebody wrote a comment at a pull request that may hold asks."""

    place: Place
    number: int  # of the pull request
    comment_id: int
    body: str
    created_at: datetime
    sender: Person

    @property
    def key(self) -> str:
        """Name it, however often and under whatever id it is delivered."""
        return f"comment/{self.place.id}/{self.comment_id}"


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """Somebody pressed "Re-run" on one of our check runs, or on all of a commit's."""

    place: Place
    sha: str
    check_run_id: int | None
    check_suite_id: int | None
    run_id: str | None  # what we wrote into the check run's external_id: a claim
    sender: Person

    @property
    def key(self) -> str:
        """Name what is asked for, however often and under whatever id it is delivered."""
        what = f"check_run/{self.check_run_id}"
        if self.check_run_id is None:
            what = f"check_suite/{self.check_suite_id}"
        return f"rerun/{self.place.id}/{what}/{self.sha}"


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Somebody pressed "Cancel" on one of our check runs."""

    place: Place
    sha: str
    check_run_id: int
    run_id: str | None
    sender: Person

    @property
    def key(self) -> str:
        """As for Rerun."""
        return f"cancel/{self.place.id}/check_run/{self.check_run_id}/{self.sha}"


@dataclass(frozen=True, kw_only=True)
class Pressed:
    """Somebody pressed one of our buttons other than "Cancel" on a check run of ours."""

    place: Place
    sha: str
    check_run_id: int
    identifier: str  # extend, retry_on_demand, approve, logs
    external_id: str  # what we wrote there: a run's id, or a pull request's subject: a claim
    sender: Person

    @property
    def key(self) -> str:
        """As for Rerun."""
        return f"{self.identifier}/{self.place.id}/check_run/{self.check_run_id}/{self.sha}"


@dataclass(frozen=True, kw_only=True)
class ReleaseChanged:
    """Somebody took a release away: a hint to ask GitHub."""

    place: Place
    release_id: int
    what: str  # "deleted" or "unpublished"
    sender: Person | None


@dataclass(frozen=True, kw_only=True)
class RepositoryChanged:
    """A repository has other names, another owner, or is gone: a hint to ask GitHub.

    Bodies of other events look alike, so nothing may rest on it alone.
    """

    place: Place
    gone: bool


@dataclass(frozen=True, kw_only=True)
class InstallationChanged:
    """The app was installed, removed, or given other repositories."""

    installation_id: int
    gone: bool  # uninstalled or suspended
    removed: tuple[int, ...]  # repository ids
    added: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """The delivery asks for nothing of ours."""

    reason: str


Intent = (
    StartRun
    | PullRequest
    | PullEnded
    | Commented
    | Rerun
    | Cancel
    | Pressed
    | ReleaseChanged
    | RepositoryChanged
    | InstallationChanged
    | Ignored
)
