"""What the server tells of cached data: what is kept, what went, what a purge removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class TreeView:
    """One dataset in the cache."""

    repository_id: int | None  # None: of an owner, whose repositories share it
    owner_id: int | None
    repository: str  # owner/name where it is known
    part: str  # who writes and reads it: default branch, branches, pull request N
    key: str
    source: str
    revision: str
    files: int
    size_bytes: int
    state: str  # ready; fetching: an instance brings it
    created_at: datetime
    used_at: datetime
    used_by: tuple[str, ...]  # ids of live runs: it is not evicted


@dataclass(frozen=True, kw_only=True)
class UseView:
    """How much one repository, or owner, has in the cache."""

    tenant: str  # the repository's number; o and the owner's
    blobs: int
    size_bytes: int  # what several datasets share counts once


@dataclass(frozen=True, kw_only=True)
class DataView:
    """All that is cached, the last used first."""

    trees: tuple[TreeView, ...]
    uses: tuple[UseView, ...]
    limit_bytes: int  # of one repository, or owner
    limit_days: int  # unused; 0: for ever


@dataclass(frozen=True, kw_only=True)
class CollectView:
    """What was given up, or would be."""

    trees: tuple[TreeView, ...]
    blobs: int  # deleted at once; those of the datasets above go after a day
    size_bytes: int
    dry_run: bool


@dataclass(frozen=True, kw_only=True)
class PurgeView:
    """What one step of a purge removed."""

    repository_id: int
    blobs: dict[str, int]  # by kind: cached data, listings, checkpoints, outputs
    size_bytes: int
    more: bool  # ask again: not all is gone
    remains: tuple[str, ...]  # sentences: what else there may be, and who removes it
