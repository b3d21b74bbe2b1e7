"""The messages by which an agent saves a run's checkpoint folder, or gets it back.

The bytes go by signed addresses, each file under its own digest; a checkpoint exists once the
list of its files is kept: `Checkpoint` is sent last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cynthus.wire import UploadGrant

#: Of one checkpoint. The list is one message of at most 8 MB; sharded formats have hundreds.
CHECKPOINT_FILES = 20_000
#: Of one question for upload addresses: a bucket is asked once for each.
BLOBS_AT_ONCE = 20
#: Of one answer to a question for the files: 0.3 MB.
FILES_AT_ONCE = 1000


def leaves_folder(path: str, link: str) -> bool:
    """Say whether a symbolic link at `path` would point out of the folder, or anywhere absolute."""
    depth = path.count("/")
    if link.startswith("/") or not link:
        return True
    for part in link.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """One file of a checkpoint."""

    path: str  # relative to the folder
    size_bytes: int
    sha256: str  # 64 hex digits; empty for a link
    modified_us: int  # microseconds since 1970 on the instance's clock: programs sort by it
    executable: bool = False
    link: str | None = None  # where a symbolic link points, never out of the folder


@dataclass(frozen=True, kw_only=True)
class CheckpointBlob:
    """The bytes of one or more files."""

    sha256: str
    size_bytes: int
    md5: str


@dataclass(frozen=True, kw_only=True)
class CheckpointBlobs:
    """Which of these bytes are missing? POST /agent/v1/checkpoints/blobs. Safe to repeat."""

    blobs: tuple[CheckpointBlob, ...]  # at most BLOBS_AT_ONCE


@dataclass(frozen=True, kw_only=True)
class CheckpointGrants:
    """Where to put each of them, in the order of the question; `url` null: it is there."""

    grants: tuple[UploadGrant, ...]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All files of one checkpoint, the bytes of which are stored. POST /agent/v1/checkpoints.

    Safe to repeat: the same list as the newest one is kept once. After the attempt's end: 410.
    """

    files: tuple[CheckpointFile, ...]
    saved_at: datetime  # when the folder was looked at, by the instance's clock: a claim
    step: int | None = None  # the last one told before the newest of these files was written
    progress: float | None = None  # as `step`, from 0 to 1


@dataclass(frozen=True, kw_only=True)
class CheckpointKept:
    """The answer: it exists from here on."""

    number: int  # counts the checkpoints of one run (and rank)


@dataclass(frozen=True, kw_only=True)
class CheckpointAsk:
    """What was saved before this attempt? POST /agent/v1/checkpoints/latest.

    Answered with 204 when there is nothing.
    """

    place: int = 0  # 0: the newest, 1: the one before, for when that one is damaged
    first: int = 0  # index of the first file to be told


@dataclass(frozen=True, kw_only=True)
class CheckpointPlace:
    """One file with where its bytes are."""

    file: CheckpointFile
    url: str  # signed, for GET; empty for a link


@dataclass(frozen=True, kw_only=True)
class CheckpointView:
    """A checkpoint as it is given back, a page of its files at a time."""

    run_id: str  # this run, or the one that it repeats
    attempt: int
    number: int
    saved_at: datetime
    size_bytes: int
    files: int  # of all pages
    page: tuple[CheckpointPlace, ...]
    step: int | None = None
    progress: float | None = None
    lost_steps: int | None = None  # told after `step`, before the loss; None: not known
