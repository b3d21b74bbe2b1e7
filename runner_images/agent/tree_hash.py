"""Hash files, the large ones while they still grow."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BLOCK_BYTES = 1 << 20
FOLLOWED_BYTES = 32 << 20  # smaller ones are hashed within 20 ms once they are whole
PAUSE_S = 0.05  # between two looks at a file that grows: 30 MB at the speed of 10 Gbit/s
FIND_S = 0.1  # between two looks for more of them
FIND_SHARE = 20  # and so many times what the look took: at most a twentieth of a core


@dataclass(frozen=True, kw_only=True)
class Digest:
    """What a file's bytes hash to."""

    size_bytes: int
    sha256: str
    git_blob: str  # SHA-1 as git has it for a blob; "" where it was not asked for


def digest(path: Path, *, git_blob: bool = False) -> Digest:
    """Hash one whole file.

    A blob's id: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    sha256 = hashlib.sha256()
    size = path.stat().st_size
    sha1 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git_blob else None
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(min(BLOCK_BYTES, max(size, 1)))
        view = memoryview(buffer)
        while count := file.readinto(buffer):
            sha256.update(view[:count])
            if sha1 is not None:
                sha1.update(view[:count])
    return Digest(
        size_bytes=size, sha256=sha256.hexdigest(), git_blob=sha1.hexdigest() if sha1 else ""
    )


class Follower:
    """Hashes files below a folder while a client writes them from their beginning to their end.

    A guess that saves time: a writer that goes back makes the hash wrong, so a mismatch has to be
    judged by `digest`. Files are known by their inode, since they are renamed when whole.
    """

    def __init__(self, growing: Callable[[], Iterator[Path]]) -> None:
        self._growing = growing
        self._open: dict[tuple[int, int], _Followed] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="hash", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for followed in self._open.values():
            os.close(followed.number)

    def finish(self) -> None:
        """Stop looking for more; what is known so far can be asked for from now on."""
        self._stop.set()
        self._thread.join()

    def digest(self, path: Path) -> Digest | None:
        """Return the digest of a whole file that was followed, or None."""
        stat = path.stat()
        followed = self._open.get((stat.st_dev, stat.st_ino))
        if followed is None:
            return None
        followed.catch_up()
        if followed.at != stat.st_size:
            return None
        return Digest(size_bytes=stat.st_size, sha256=followed.sha256.hexdigest(), git_blob="")

    def _follow(self) -> None:
        find_at = 0.0
        while not self._stop.is_set():
            began = time.monotonic()
            if began >= find_at:
                self._find()
                took = time.monotonic() - began
                find_at = began + max(FIND_S, FIND_SHARE * took)
            # Not read to the end of all things: a stop is noticed between two files.
            moved = sum(followed.catch_up(self._stop) for followed in list(self._open.values()))
            if not moved:
                self._stop.wait(PAUSE_S)

    def _find(self) -> None:
        for path in self._growing():
            try:
                stat = path.stat()
                key = (stat.st_dev, stat.st_ino)
                if stat.st_size < FOLLOWED_BYTES or key in self._open:
                    continue
                self._open[key] = _Followed(os.open(path, os.O_RDONLY | os.O_NOFOLLOW))
            except OSError:  # renamed or removed meanwhile
                continue


class _Followed:
    """One open file with the hash of what was read of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sha256 = hashlib.sha256()
        self.at = 0
        self._buffer = bytearray(BLOCK_BYTES)

    def catch_up(self, stop: threading.Event | None = None) -> int:
        """Hash what is there by now; return how many bytes that was."""
        moved, view = 0, memoryview(self._buffer)
        while (stop is None or not stop.is_set()) and (
            count := os.preadv(self.number, [self._buffer], self.at)
        ):
            self.sha256.update(view[:count])
            self.at += count
            moved += count
        return moved
