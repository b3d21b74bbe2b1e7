"""What every source of data is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cynthus.wire_cache import ListedFile
from cynthus.wire_data import DatasetWork, TreeFile
from runner_images.agent.public_http import Trust
from runner_images.agent.staging_progress import Progress
from runner_images.agent.unpacking import BadArchive, checked_path
from runner_images.agent.workload import CannotStart

TRIES = 4  # of a hub that fails in a way that passes; what is there already is kept between them
FIRST_PAUSE_S = 1.0  # then 4 and 16 s: a hub that is away for longer ends the attempt


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One dataset to fetch, with all that its source may use."""

    work: DatasetWork
    secrets: Mapping[str, str]
    folder: Path  # for the bytes; holds what an earlier try left
    cache_dir: Path  # of all repositories: for what is no data
    progress: Progress
    free_bytes: Callable[[], int]
    make_room: Callable[[int], int]  # throws away unused data; returns what is free
    had: Callable[[TreeFile], bool]  # its bytes lie in the cache already
    listing: Callable[[], Iterator[ListedFile]]
    stopping: Callable[[], bool]
    pause: Callable[[float], bool]  # True: it was cut short by a stop
    trust: Trust
    floor_bytes: int  # of the disk stay free
    tries: int

    @property
    def what(self) -> str:
        """Return how sentences call it."""
        return f"data {self.work.dataset.name}"

    def check_stop(self) -> None:
        """Raise CannotStart when nobody wants it any more."""
        if self.stopping():
            raise CannotStart(f"{self.what}: stopped while it was staged", infrastructure=False)

    def check_room(self, need_bytes: int) -> None:
        """Make room for so many more bytes, or say what would fit. Raises: CannotStart."""
        whole = need_bytes + self.floor_bytes
        free = self.free_bytes()
        if free < whole:
            free = self.make_room(whole)
        if free < whole:
            fits = max(0, free - self.floor_bytes)
            raise CannotStart(_no_room(self.what, need_bytes, fits), infrastructure=False)

    def check_floor(self) -> None:
        """End before the disk is full, while outputs can be saved. Raises: CannotStart."""
        if self.free_bytes() < self.floor_bytes:
            self.check_room(0)

    def insist(self, once: Callable[[], Fetched]) -> Fetched:
        """Try until it works, fails for good, or was tried often enough. Raises: CannotStart."""
        pause_s = FIRST_PAUSE_S
        for _ in range(self.tries - 1):
            try:
                return once()
            except Passing:
                if self.pause(pause_s):
                    self.check_stop()
                pause_s *= 4
        return once()


class Passing(CannotStart):
    """It failed in a way that may pass: the same may be tried again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, infrastructure=True)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The files of a dataset, verified and hashed."""

    files: tuple[tuple[Path | None, TreeFile], ...]  # None: its bytes lie in the cache
    archive_sha256: str | None = None


def safe_path(what: str, path: str) -> str:
    """Return a path that a hub gave, if it stays below its folder. Raises: CannotStart."""
    try:
        return checked_path(path)
    except BadArchive as error:
        raise CannotStart(f"{what}: {error}", infrastructure=False) from error


def _no_room(what: str, need_bytes: int, fits: int) -> str:
    return (
        f"{what}: {gb(need_bytes)} are still needed and {gb(fits)} fit on the instance's disk."
        " Ask for more in resources/disk, or take less with `include`"
    )


def gb(size_bytes: int) -> str:
    """Return bytes as people read them: 10^9 and 10^6, as in the spec."""
    if size_bytes >= 10**9:
        return f"{size_bytes / 10**9:.1f} GB"
    return f"{size_bytes / 10**6:.1f} MB"
