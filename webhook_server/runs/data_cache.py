"""Say who shares cached data with whom, and what of it is given up. Pure.

The rule of sharing is GitHub's own for its caches: what a branch of strangers or a pull request
writes is read by itself alone, what the default branch writes by everybody in the repository.
https://docs.github.com/en/actions/reference/workflows-and-actions/dependency-caching#restrictions-for-accessing-a-cache
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cynthus.wire_data import Dataset
from webhook_server.runs.model import Run

TRUNK = 0  # the part that runs of the default branch write
#: The part of all other branches: whoever writes there may write to the repository. No pull
#: request has this number, and a blob's key has room for no longer one.
BRANCHES = 999_999_999
#: A tree whose agent died is begun anew by the next one; nobody came for it for so long.
UNFINISHED = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A part of one repository's cache, or of its owner's where the policy says so."""

    tenant_id: int  # GitHub's number of the repository, or of the owner
    part: int = TRUNK
    owner: bool = False  # the tenant is an owner: all its repositories that say so share it

    @property
    def tenant(self) -> str:
        """Return the tenant as the database has it; numbers of owners and repositories collide."""
        return f"o{self.tenant_id}" if self.owner else str(self.tenant_id)

    @property
    def prefix(self) -> str:
        """Return the folder of its blobs' keys."""
        word = "ownerdata" if self.owner else "data"
        return f"{self.tenant_id}/{word}/{self.part}/"

    def blob_key(self, sha256: str) -> str:
        """Return where a blob lies; `sha256` was checked to be 64 hex digits."""
        return f"{self.prefix}{sha256}"


def scope_of(tenant: str, part: int) -> Scope:
    """Return the scope of a row."""
    return Scope(tenant_id=int(tenant.removeprefix("o")), part=part, owner=tenant.startswith("o"))


def listing_key(repository_id: int, key: str) -> str:
    """Return where the list of a `gs://` dataset's objects lies."""
    return f"{repository_id}/listings/0/{key}"


def scopes_of(run: Run, owner_id: int | None = None) -> tuple[Scope, ...]:
    """Return what a run may read of the cache, first what it alone writes; empty: no cache.

    `owner_id` is set where the repository's policy shares its cache with its owner's others.
    A fork's run reads nothing of the repository's, whose data may be private or gated.
    """
    repository_id = run.key.repository_id
    trunk = Scope(tenant_id=repository_id)
    if owner_id is not None:
        trunk = Scope(tenant_id=owner_id, owner=True)
    if run.pull_request is not None:
        own = Scope(tenant_id=repository_id, part=run.pull_request)
        if not 0 < run.pull_request < BRANCHES:
            return ()
        return (own,) if run.origin.fork else (own, trunk)
    if run.origin.fork:
        return ()
    if repository_id == 0 or run.ref == f"refs/heads/{run.default_branch}":
        return (trunk,)
    return (Scope(tenant_id=repository_id, part=BRANCHES), trunk)


def dataset_of(run: Run, key: str) -> Dataset | None:
    """Return the run's own dataset of this key."""
    return next((one for one in run.datasets or () if one.key == key), None)


# ── eviction ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class KeptTree:
    """One dataset in the cache, or on its way there."""

    scope: Scope
    key: str
    source: str
    revision: str
    files: int
    size_bytes: int
    ready: bool
    created_at: datetime
    used_at: datetime
    leased_until: datetime


@dataclass(frozen=True, kw_only=True)
class CacheLimits:
    """How much is kept, and how long."""

    tenant_bytes: int  # of one repository, or owner
    unused: timedelta | None  # None: for ever


def evictions(
    trees: Iterable[KeptTree], live: Collection[str], limits: CacheLimits, now: datetime
) -> tuple[KeptTree, ...]:
    """Return what has to go, the first first: what is too old, then what is too much.

    Never a key of a live run (`live`) nor one under a lease. What is too much goes by tenant, so
    that nobody's data makes another's go: parts of pull requests and branches first, then by last
    use. A file that two trees share counts in both: then a little more goes than must.
    """
    going: list[KeptTree] = []
    staying: dict[str, list[KeptTree]] = {}
    for tree in trees:
        held = tree.key in live or tree.leased_until > now
        if not held and _is_old(tree, limits, now):
            going.append(tree)
        else:
            staying.setdefault(tree.scope.tenant, []).append(tree)
    for _, kept in sorted(staying.items()):
        going += _too_much(kept, live, limits.tenant_bytes, now)
    return tuple(going)


def _is_old(tree: KeptTree, limits: CacheLimits, now: datetime) -> bool:
    if not tree.ready:
        return tree.used_at <= now - UNFINISHED
    return limits.unused is not None and tree.used_at <= now - limits.unused


def _too_much(
    kept: list[KeptTree], live: Collection[str], most: int, now: datetime
) -> Iterable[KeptTree]:
    total = sum(tree.size_bytes for tree in kept)
    for tree in sorted(kept, key=lambda one: (one.scope.part == TRUNK, one.used_at, one.key)):
        if total <= most:
            return
        if tree.key not in live and tree.leased_until <= now and tree.ready:
            total -= tree.size_bytes
            yield tree
