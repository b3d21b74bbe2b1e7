"""The messages by which agents share data through the blob store: claim, bring, commit, fetch.

The agent names keys and digests, the server makes names and signs addresses. Bytes never pass
these doors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cynthus.wire import UploadGrant

#: Digests a message: a hundred answers of 2 kB each stay far below what an agent reads (4 MiB),
#: and a message below what the server reads (64 KiB): 500 digests have 36 kB.
DATA_BATCH = 500
#: Blobs a message that asks for uploads: each may cost the server two requests of its store.
BLOB_BATCH = 100


class Standing(StrEnum):
    """What an agent finds when it claims a dataset's key."""

    READY = "ready"  # its tree is here: fetch it
    FETCH = "fetch"  # you hold the lease: have it from its hub, bring it, commit it
    WAIT = "wait"  # another instance has it from its hub: ask again


@dataclass(frozen=True, kw_only=True)
class DataAddress:
    """Where one blob may be fetched: by anybody, until then."""

    sha256: str
    size_bytes: int
    url: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class DataAsk:
    """A question about one dataset of the agent's own run."""

    key: str
    own: bool = False  # claim: only what this run's own part of the cache has, and may mend
    sha256: tuple[str, ...] = ()  # addresses: of which files; give-up: which came damaged
    after: str = ""  # listing: the last path of the page before


@dataclass(frozen=True, kw_only=True)
class DataClaimView:
    """Who has the bytes of a key."""

    standing: Standing
    wait_s: float = 0.0  # wait: ask again then; fetch: the lease ends then unless it is renewed
    tree: DataAddress | None = None  # ready: the list of its files, in lines of JSON


@dataclass(frozen=True, kw_only=True)
class DataBlob:
    """One file's bytes that an agent has, or has brought."""

    sha256: str
    size_bytes: int
    md5: str | None = None  # 32 hex digits: once it was brought past the server


@dataclass(frozen=True, kw_only=True)
class DataBlobsAsk:
    """Which of these are missing? Of those that were brought: are they stored now?"""

    key: str
    blobs: tuple[DataBlob, ...]


@dataclass(frozen=True, kw_only=True)
class DataBlobsView:
    """A grant for each blob in the order of the question; without address: it is stored."""

    grants: tuple[UploadGrant, ...]


@dataclass(frozen=True, kw_only=True)
class DataCommit:
    """All files of a key are stored, and so is the list of them."""

    key: str
    tree: DataBlob


@dataclass(frozen=True, kw_only=True)
class DataAddresses:
    """Where the files that were asked for may be fetched; what is not stored is left out."""

    addresses: tuple[DataAddress, ...]


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """One object of a `gs://` dataset, at the generation that its run was pinned to."""

    path: str  # relative to the mount
    size_bytes: int
    url: str  # a signed GET of exactly this generation
    md5: str | None = None  # 32 hex digits; composite objects have none
    crc32c: str | None = None  # 8 hex digits


@dataclass(frozen=True, kw_only=True)
class DataListing:
    """A page of a `gs://` dataset's objects."""

    files: tuple[ListedFile, ...] = field(default=())
    after: str | None = None  # ask on from here; None: this was the last page
