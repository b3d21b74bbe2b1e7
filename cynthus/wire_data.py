"""The messages about what a run stands on and leaves behind: data, its cache, checkpoints.

`wire` has those of the run itself. The agent is the only one who moves bytes: the server names
what shall come, says who has it already, and signs addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class SourceKind(StrEnum):
    """Where data comes from: the scheme of its source."""

    HF = "hf"
    KAGGLE = "kaggle"
    GS = "gs"
    HTTPS = "https"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One entry of a spec's `data`, bound to bytes that do not change any more."""

    name: str
    source: str  # as the spec says it
    mount: str  # where the command finds it
    kind: SourceKind
    #: hf: commit, 40 hex digits; kaggle: the version's number; gs: SHA-256 of the listing of names
    #: and generations; https: the SHA-256 that the spec demands.
    revision: str
    key: str  # 64 hex digits: equal for equal bytes in equal places, whatever their mount
    size_bytes: int | None = None  # None: its hub does not tell before it is fetched
    files: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    subset: str | None = None
    unpack: bool = False  # an archive: its content is staged instead


@dataclass(frozen=True, kw_only=True)
class DatasetWork:
    """What an agent shall stage before the command starts."""

    dataset: Dataset
    endpoint: str = ""  # the hub's address; "": the client's own
    #: The patterns that the hub's client is given: include, exclude and subset together.
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TreeFile:
    """One staged file."""

    path: str  # relative to the mount
    size_bytes: int
    sha256: str  # 64 hex digits
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Tree:
    """All files of one dataset: what lies at its mount."""

    key: str  # of the dataset
    revision: str
    files: tuple[TreeFile, ...]
    #: SHA-256 of an archive that the hub gave and that the files were unpacked from.
    archive_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointWork:
    """A folder that is saved while the command runs, and put back before it starts."""

    path: str  # relative to /workspace
    every_s: float
    limit_bytes: int  # more is not saved, and said
    restore: bool = False  # something was saved by an earlier attempt, or by the run it repeats


@dataclass(frozen=True, kw_only=True)
class StagingView:
    """How far staging is; body of the event `staging`."""

    name: str  # the data's; "" for all of it together
    state: str  # waiting, fetching, verifying, unpacking, cached, ready
    done_bytes: int
    total_bytes: int | None
    files: int = 0
    eta_s: float | None = None
    origin: str = ""  # hub, cache or disk: where the bytes come from
    extra: dict[str, str] = field(default_factory=dict)
