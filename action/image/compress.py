"""Compress a stream of blocks, on all cores, to the same bytes however many there are."""

from __future__ import annotations

import contextlib
import importlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol

Compression = Literal["gzip", "zstd"]  # as media types end

# Each block is compressed by itself, with the end of the one before it as its dictionary, as pigz
# does, and with its block size: https://zlib.net/pigz/pigz.pdf. Measured, 100 MB of Python sources
# become 0.01 % larger than as one stream; and a source of 1 MB is still work for eight cores.
BLOCK_BYTES = 128 << 10
_DICTIONARY_BYTES = 32 << 10  # as far back as deflate can refer: RFC 1951
# What gzip(1) and Docker use. Measured on the same sources: level 1 takes a third of the time and
# makes 24 % more bytes, which an uplink is slower to send than a core to save; 9 saves 1 % in four
# times the time.
LEVEL = 6
# Blocks on their way, for each thread: one in work, one waiting.
_AHEAD = 2

_HEADER = struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, 0, 0, 0, 255)  # RFC 1952: no time, no system
_ZSTD_LEVEL = 3  # zstd's own default: 7 % smaller than gzip's 6 there, in a third of the time


class Compressor(Protocol):
    """Something that takes a stream and writes it compressed."""

    name: Compression

    def write(self, block: bytes) -> None:
        """Take the next part of the stream."""

    def finish(self) -> None:
        """Write what is left; nothing may be written afterwards."""

    def close(self) -> None:
        """Let go of threads; safe to repeat, and to call in the middle of the stream."""


class Gzip:
    """One member of RFC 1952, made by several threads; zlib lets them run side by side.

    Holds at most two blocks for each thread, raw and compressed: half a MiB a thread.
    The bytes depend on the input and on zlib, not on the number of threads or the clock.
    """

    name: Compression = "gzip"

    def __init__(self, put: Callable[[bytes], object], threads: int | None = None) -> None:
        count = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="gzip")
        self._put = put
        self._under_way: deque[Future[bytes]] = deque()
        self._most = count * _AHEAD
        self._buffer = bytearray()
        self._before = b""
        self._crc = self._size = 0
        self._put(_HEADER)

    def write(self, block: bytes) -> None:
        """Take the next part of the stream."""
        self._buffer += block
        while len(self._buffer) > BLOCK_BYTES:  # the last block is kept: it ends the stream
            part = bytes(self._buffer[:BLOCK_BYTES])
            del self._buffer[:BLOCK_BYTES]
            self._start(part, last=False)

    def finish(self) -> None:
        """Write what is left; nothing may be written afterwards."""
        self._start(bytes(self._buffer), last=True)
        while self._under_way:
            self._put(self._under_way.popleft().result())
        self._put(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        self.close()

    def close(self) -> None:
        """Let go of threads; safe to repeat, and to call in the middle of the stream."""
        self._pool.shutdown(cancel_futures=True)

    def _start(self, part: bytes, *, last: bool) -> None:
        self._under_way.append(self._pool.submit(_deflate, part, self._before, last))
        self._before = part[-_DICTIONARY_BYTES:]
        self._crc = zlib.crc32(part, self._crc)
        self._size += len(part)
        if len(self._under_way) > self._most:
            self._put(self._under_way.popleft().result())


def _deflate(part: bytes, before: bytes, last: bool) -> bytes:
    work = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    # A synchronised block ends on a byte, so that the parts can be joined.
    return work.compress(part) + work.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


class _Zstd:
    """One frame, made by one thread, which is as fast as gzip by three."""

    name: Compression = "zstd"

    def __init__(self, put: Callable[[bytes], object], work: Any) -> None:
        self._put = put
        self._work = work

    def write(self, block: bytes) -> None:
        self._put(self._work.compress(block))

    def finish(self) -> None:
        self._put(self._work.flush())

    def close(self) -> None:
        pass


def compressor(wanted: Compression, put: Callable[[bytes], object]) -> Compressor:
    """Return what is wanted, or gzip where this Python has no zstd; `name` says which it is.

    zstd is in Python's own library from 3.14 on, else in the package `zstandard`:
    https://docs.python.org/3.14/library/compression.zstd.html
    """
    work = _zstd_work() if wanted == "zstd" else None
    return _Zstd(put, work) if work is not None else Gzip(put)


def _zstd_work() -> Any:
    """Return an object with `compress` and `flush`, or None."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("compression.zstd").ZstdCompressor(level=_ZSTD_LEVEL)
    with contextlib.suppress(ImportError):
        whole = importlib.import_module("zstandard").ZstdCompressor(level=_ZSTD_LEVEL)
        return whole.compressobj()
    return None
