"""Fetch many blobs at a time, or one large one in many parts; hash all while they come."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Self

from cynthus.wire_cache import DataAddress
from cynthus.wire_data import TreeFile
from runner_images.agent.door import Unanswered
from runner_images.agent.ranges import Fetcher, Gone, Over, Span

#: One stream from Cloud Storage gives some 50 to 100 MB/s; eight fill most instances' lines.
PARALLEL = 8
#: Parts of a large file that are in memory at a time, beside the one that is written: 40 MiB.
WINDOW = 4
PART_BYTES = 8 << 20
LARGE_BYTES = 64 << 20  # from here on parts gain more than their requests cost

Told = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Bytes that are kept somewhere, and what they must be."""

    url: str
    size_bytes: int
    sha256: str


class Fetching:
    """The connections of one transfer."""

    def __init__(self, over: Over, stopping: Callable[[], bool]) -> None:
        self._over, self._stopping = over, stopping
        self._free: queue.SimpleQueue[Fetcher] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch")
        self._failed = threading.Event()
        self._large = threading.Lock()  # one at a time: its window is what memory there is for it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._failed.set()
        self._pool.shutdown(cancel_futures=True)
        while not self._free.empty():
            self._free.get().close()

    def bring(
        self,
        files: Sequence[TreeFile],
        addresses: Mapping[str, DataAddress],
        put: Callable[[TreeFile], AbstractContextManager[BinaryIO]],
        told: Told,
    ) -> tuple[str, ...]:
        """Fetch files to where `put` opens them; return the digests of those that came damaged.

        Raises: Unanswered; what `put` raises.
        """
        small = [file for file in files if file.size_bytes < LARGE_BYTES]

        def one(file: TreeFile) -> str | None:
            return self._one(file, addresses[file.sha256], put, told)

        futures = [self._pool.submit(one, file) for file in small]
        bad = [one(file) for file in files if file.size_bytes >= LARGE_BYTES]
        bad += [future.result() for future in futures]
        return tuple(dict.fromkeys(sha256 for sha256 in bad if sha256 is not None))

    def _one(
        self,
        file: TreeFile,
        address: DataAddress,
        put: Callable[[TreeFile], AbstractContextManager[BinaryIO]],
        told: Told,
    ) -> str | None:
        if address.size_bytes != file.size_bytes:
            return file.sha256
        try:
            with put(file) as target:
                if not self.copy(address, target, told):
                    raise _Other
        except _Other:
            return file.sha256
        return None

    def copy(self, address: DataAddress | Blob, target: BinaryIO, told: Told) -> bool:
        """Write a blob's bytes; return whether they are there, with its digest.

        Raises: Unanswered.
        """
        digest = hashlib.sha256()
        try:
            for block in self._bytes(address):
                digest.update(block)
                target.write(block)
                told(len(block))
        except Gone:
            return False  # as good as damaged: who hears of it has it brought anew
        return digest.hexdigest() == address.sha256

    def _bytes(self, address: DataAddress | Blob) -> Iterator[bytes]:
        size = address.size_bytes
        if size < LARGE_BYTES:
            yield from self._span(address.url, Span(first=0, last=size - 1, whole=size))
            return
        with self._large:
            waiting: deque[Future[bytes]] = deque()
            for first in range(0, size, PART_BYTES):
                span = Span(first=first, last=min(first + PART_BYTES, size) - 1, whole=size)
                waiting.append(self._pool.submit(self._part, address.url, span))
                if len(waiting) == WINDOW:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _part(self, url: str, span: Span) -> bytes:
        return b"".join(self._span(url, span))

    def _span(self, url: str, span: Span) -> Iterator[bytes]:
        if self._halted():
            raise Unanswered("fetch: was stopped")
        try:
            fetcher = self._free.get_nowait()
        except queue.Empty:
            fetcher = Fetcher(self._over, self._halted)
        try:
            yield from fetcher.bytes_of(url, span)
        except BaseException:
            fetcher.close()
            raise
        finally:
            self._free.put(fetcher)

    def _halted(self) -> bool:
        return self._failed.is_set() or self._stopping()


class _Other(Exception):  # noqa: N818 - reads as what happened
    """The bytes are other ones: what `put` opened must not be kept."""
