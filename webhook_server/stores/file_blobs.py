"""Keep blobs as files of one folder; the same file system makes the last step atomic."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from webhook_server.stores.blob_protocol import (
    Announced,
    BlobMismatch,
    DirectPut,
    Measure,
    Receipt,
    StoredBlob,
    is_key,
    is_prefix,
)

_CHUNK_BYTES = 1 << 20  # large enough for the disk, small beside the server's memory
_INCOMING = ".incoming"


class FileBlobs:
    """Blobs as files of one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._digests = _Digests()

    def sweep(self) -> None:
        """Remove what an earlier process left half received. Call before the first `receive`."""
        for leftover in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                leftover.unlink()

    def receive(self, key: str, blob: Announced) -> Receipt:
        """Begin to take in a blob of exactly this size, and digest where one was announced."""
        return _FileReceipt(self._incoming, self._path(key), blob, self._digests)

    def generation(self, key: str) -> int:
        """Return the moment, in nanoseconds, at which the blob's last byte came; 0: none lies here.

        Each blob is a file of its own that nobody writes again, so that two never share one.
        """
        return _generation(self._path(key))

    def has(self, key: str, blob: Announced) -> bool:
        """Return whether exactly this blob is here; reads it when its size agrees.

        What this process has hashed as it came is not read again.
        """
        if not blob.sha256 or self.size(key) != blob.size_bytes:
            return False
        known = self._digests.of(self._path(key))
        if known is not None:
            return known == blob.sha256
        found = self.open(key)
        if found is None:
            return False
        with found:
            return _digest_of(found) == blob.sha256

    def direct_put(self, key: str, blob: Announced, life: timedelta) -> DirectPut | None:  # noqa: ARG002 - the protocol's
        """Say that every byte passes this server."""
        return None

    def direct_url(self, key: str, disposition: str, life: timedelta) -> str | None:  # noqa: ARG002 - the protocol's
        """Say that every byte passes this server."""
        return None

    def close(self) -> None:
        """Do nothing: files are closed by who opened them."""

    def size(self, key: str) -> int | None:
        """Return the blob's size, or None when it is not here."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, key: str) -> BinaryIO | None:
        """Return the blob for reading, or None when it is not here."""
        try:
            return self._path(key).open("rb")
        except FileNotFoundError:
            return None

    def usage(self, prefix: str) -> tuple[int, int]:
        """Return how many blobs lie under `prefix`, with their bytes."""
        folder = self._path(f"{prefix}/{'0' * 64}").parent
        if not folder.is_dir():
            return 0, 0
        sizes = [item.stat().st_size for item in os.scandir(folder)]
        return len(sizes), sum(sizes)

    def proven(self, key: str, blob: Announced) -> bool:
        """Return whether it is here: only `receive` makes it visible, once its digest is right."""
        return key.endswith(f"/{blob.sha256}") and self.size(key) == blob.size_bytes

    def stored(self, prefix: str) -> Iterator[StoredBlob]:
        """Yield what lies under `prefix`, a folder at a time; what goes meanwhile is left out."""
        if not is_prefix(prefix):
            raise ValueError("a prefix is a folder of keys")
        for folder, folders, names in os.walk(self._root / prefix):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                with suppress(FileNotFoundError):
                    found = path.stat()
                    at = datetime.fromtimestamp(found.st_mtime, UTC)
                    yield StoredBlob(key=key, size_bytes=found.st_size, stored_at=at)

    def delete(self, key: str) -> bool:
        """Remove a blob; return whether it was here. Safe to repeat."""
        path = self._path(key)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        with suppress(OSError):  # others lie there still
            path.parent.rmdir()
        return True

    def _path(self, key: str) -> Path:
        if not is_key(key):
            raise ValueError("a blob key is made by blob_key")
        return self._root / key


class _FileReceipt:
    """A temporary file that becomes the blob by one rename."""

    def __init__(self, incoming: Path, target: Path, blob: Announced, digests: _Digests) -> None:
        self._target, self._measure = target, Measure(blob)
        self._over, self._digests = blob.over, digests
        handle, name = tempfile.mkstemp(dir=incoming)
        self._file = os.fdopen(handle, "wb", buffering=_CHUNK_BYTES)
        self._temporary: Path | None = Path(name)

    def write(self, chunk: bytes) -> None:
        self._measure.add(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        self._measure.check()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        assert self._temporary is not None  # noqa: S101 - finish comes once, before abort
        if self._over is not None and _generation(self._target) != self._over:
            raise BlobMismatch("address: another upload was faster. Ask for a new one.")
        self._digests.note(self._temporary, self._target, self._measure.sha256)
        self._move(self._temporary)
        self._temporary = None
        _sync_folder(self._target.parent)

    def _move(self, temporary: Path) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.replace(self._target)
        except FileNotFoundError:  # `delete` has just removed the folder, which was empty
            self._target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(self._target)

    def abort(self) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None
        # On a full disk the last block cannot be written: closing says so once more.
        with suppress(OSError):
            self._file.close()


class _Digests:
    """What this process hashed of the newest blobs as they came, by which file it was."""

    _KEPT = 4096  # more than an attempt brings between an upload and its confirmation; 1 MB

    def __init__(self) -> None:
        self._known: OrderedDict[Path, tuple[int, int, str]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, file: Path, target: Path, sha256: str) -> None:
        """Remember the digest of a file that becomes `target` now."""
        stat = file.stat()
        with self._lock:
            self._known[target] = (stat.st_ino, stat.st_mtime_ns, sha256)
            self._known.move_to_end(target)
            while len(self._known) > self._KEPT:
                self._known.popitem(last=False)

    def of(self, target: Path) -> str | None:
        """Return the digest of the file that lies there now, if it is known."""
        with self._lock:
            found = self._known.get(target)
        if found is None:
            return None
        try:
            stat = target.stat()
        except FileNotFoundError:
            return None
        return found[2] if (stat.st_ino, stat.st_mtime_ns) == found[:2] else None


def _generation(target: Path) -> int:
    try:
        return target.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _digest_of(blob: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := blob.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    # A rename is durable only when its folder is: https://man7.org/linux/man-pages/man2/fsync.2.html
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
