"""The messages about images that cross between programs: what one consists of, who builds it.

As in `cynthus.wire`: JSON made by `cynthus.codec`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

LOCK_LIMIT = 1 << 20  # characters: a lock of a thousand packages with all hashes is half of that
SBOM_LIMIT = 2 << 20  # characters: a thousand components are a third of that
IMAGES_LIMIT = 10_000  # digests a list may name: a year of thirty runs a day


@dataclass(frozen=True, kw_only=True)
class Framework:
    """A package that brings code for a GPU."""

    name: str  # torch, tensorflow, jax; as package indexes compare names (PEP 503)
    version: str  # without the local part: 2.6.0
    cuda: str | None = None  # the CUDA that it was built with, 12.4; None: for the CPU only


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a run's image consists of below the source; kept with the run, put on its release."""

    key: str  # 32 hex digits: the same key is the same environment
    base: str  # the reference of the base image
    base_digest: str  # sha256:…; empty for one made on the builder's machine
    python: str | None = None  # 3.11; None: no Python in it, or not known (a Dockerfile's own)
    frameworks: tuple[Framework, ...] = ()
    minimum_driver: str | None = None  # the oldest NVIDIA driver its CUDA runs with; None: any
    lock: str | None = None  # requirements with hashes, as pip and uv read them
    sbom: str | None = None  # CycloneDX 1.6, JSON text


@dataclass(frozen=True, kw_only=True)
class EnvironmentView:
    """An environment as a run's view and a release's manifest show it: its texts by digest."""

    key: str
    base: str
    base_digest: str
    python: str | None = None
    frameworks: tuple[Framework, ...] = ()
    minimum_driver: str | None = None
    lock_sha256: str | None = None  # of requirements.lock, a release's asset
    sbom_sha256: str | None = None  # of sbom.cdx.json, likewise


@dataclass(frozen=True, kw_only=True)
class LockView:
    """GET /api/v1/locks: what the same commit was built with before; 404: it was not."""

    key: str
    lock: str


@dataclass(frozen=True, kw_only=True)
class BuildLeaseAsk:
    """POST /api/v1/build-leases: may this job build the environment with this key?

    The same holder asks again to keep it, and gives it back with `done`.
    """

    key: str  # of the environment
    holder: str  # the workflow run's URL: whom others wait for; `#JOB` tells its jobs apart
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class BuildLeaseView:
    """The answer: build it, or wait for whoever does."""

    granted: bool
    holder: str
    until: datetime  # it ends then, unless its holder asks again


@dataclass(frozen=True, kw_only=True)
class ImagesInUse:
    """GET /api/v1/images: what live runs and releases stand on; it stays. 409: it is too much."""

    digests: tuple[str, ...] = field(default=())  # of run images, of the repository
    keys: tuple[str, ...] = field(default=())  # of environments, of all repositories of its owner
