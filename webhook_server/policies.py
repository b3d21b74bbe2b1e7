"""Read repositories' policies from GitHub, keep them, and say how they stand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cynthus import policyfile
from cynthus.errors import Fault, Refused, Transient, UserError
from cynthus.repository_policy import POLICY_PATH, RepositoryPolicy
from webhook_server.github_api import GithubApi, NotFound
from webhook_server.intents import Place
from webhook_server.runs.model import Run, SpecFault
from webhook_server.runs.observations import PolicySeen
from webhook_server.stores.policy_store import PolicyKept, PolicyStore

#: A push to the file is told by a webhook; one that was lost takes effect this late at most.
FRESH = timedelta(minutes=5)
#: While GitHub is away an older reading serves: its outages end sooner, and a policy that nobody
#: can read must not be guessed.
SERVES = timedelta(hours=24)


class Policies:
    """The policies of all repositories; safe to use from many threads."""

    def __init__(
        self,
        api: GithubApi,
        store: PolicyStore,
        find: Callable[[int, str], Place],
        now: Callable[[], datetime],
    ) -> None:
        self._api, self._store, self._find, self._now = api, store, find, now

    def of(self, place: Place) -> PolicySeen:
        """Return the policy of the repository's default branch, at most five minutes old.

        One that a push has changed is read again. While GitHub cannot be asked, what was read in
        the last 24 hours counts, unless a push has changed it since: whoever made it stricter did
        not mean the run that waits. Raises: Transient when there is no such reading.
        """
        kept = self._store.get(place.id)
        return self._fresh(kept) or self._read(place, kept)

    def of_run(self, run: Run) -> PolicySeen:
        """Return the policy that a run is under. As `of`."""
        kept = self._store.get(run.key.repository_id)
        fresh = self._fresh(kept)
        if fresh is not None:
            return fresh
        try:
            place = self._find(run.key.repository_id, run.repository)
        except (Transient, Refused) as error:
            return self._old(kept, error)
        return self._read(place, kept)

    def _fresh(self, kept: PolicyKept) -> PolicySeen | None:
        seen = kept.current
        return seen if seen is not None and self._now() - seen.read_at < FRESH else None

    def _read(self, place: Place, kept: PolicyKept) -> PolicySeen:
        now = self._now()
        try:
            # It compares the id: a stranger may have registered the repository's old name.
            branch = self._api.repository(place).default_branch
            seen = policy_at(self._api, place, branch, now)
        except (Transient, Refused) as error:
            return self._old(kept, error)
        self._store.keep(place.id, seen, after=kept.pushes)
        return seen

    def _old(self, kept: PolicyKept, error: Exception) -> PolicySeen:
        seen = kept.current
        if seen is not None and self._now() - seen.read_at < SERVES:
            return seen
        retry_at = error.retry_at if isinstance(error, Transient) else None
        raise Transient(f"{POLICY_PATH} cannot be read now: {error}", retry_at) from error


def policy_at(api: GithubApi, place: Place, ref: str, now: datetime) -> PolicySeen:
    """Read the policy at a branch or commit; a file that cannot be used says why in its faults.

    Raises: Transient; Refused when the repository itself cannot be read, since GitHub answers "not
    found" to whoever may not look as well: then an absent file is no proof that there is none.
    https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api#404-not-found-for-an-existing-resource
    """
    try:
        text = api.file(place, POLICY_PATH, ref)
    except NotFound:
        api.folder(place, "", ref)
        return PolicySeen(policy=RepositoryPolicy(), read_at=now, found=False)
    except Refused as error:
        return _unusable((SpecFault(line=1, column=1, text=str(error)),), now)
    return read(text, now)


def read(text: bytes, now: datetime) -> PolicySeen:
    """Return what a policy file means, or the defaults with its faults."""
    try:
        return PolicySeen(policy=policyfile.parse(text, POLICY_PATH), read_at=now)
    except UserError as error:
        return _unusable(tuple(_fault(fault) for fault in error.faults), now)


def _unusable(faults: tuple[SpecFault, ...], now: datetime) -> PolicySeen:
    return PolicySeen(policy=RepositoryPolicy(), read_at=now, faults=faults)


def _fault(fault: Fault) -> SpecFault:
    text = f"{fault.where}: {fault.message}" if fault.where else fault.message
    return SpecFault(line=fault.line, column=fault.column, text=text)
