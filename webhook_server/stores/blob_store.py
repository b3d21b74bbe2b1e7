"""Keep the files that runs produce; a blob is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from cynthus.errors import Refused, UserError

# Only this server makes keys, from numbers and digests: nothing a user wrote becomes a path.
_KEY = re.compile(r"\A[0-9]{1,20}/[a-z0-9]{1,32}/[0-9]{1,9}/[0-9a-f]{64}\Z", re.ASCII)
_CHUNK_BYTES = 1 << 20  # large enough for the disk, small beside the server's memory
_INCOMING = ".incoming"


class BlobMismatch(Refused):
    """The bytes that came are not those that were announced."""


class Receipt(Protocol):
    """One blob on its way in."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; raises BlobMismatch as soon as there are too many."""

    def finish(self) -> None:
        """Make the blob visible, durable; raises BlobMismatch for a wrong size or digest."""

    def abort(self) -> None:
        """Leave nothing behind; harmless after `finish`."""


class BlobStore(Protocol):
    """A place that keeps blobs."""

    def receive(self, key: str, size_bytes: int, sha256: str) -> Receipt:
        """Begin to take in a blob of exactly this size and digest."""

    def has(self, key: str, size_bytes: int, sha256: str) -> bool:
        """Return whether exactly this blob is here."""

    def size(self, key: str) -> int | None:
        """Return the blob's size, or None when it is not here."""

    def open(self, key: str) -> BinaryIO | None:
        """Return the blob for reading, or None when it is not here."""

    def usage(self, prefix: str) -> tuple[int, int]:
        """Return how many blobs lie under `prefix`, with their bytes."""


def blob_key(repository_id: int, run_id: str, attempt: int, path: str) -> str:
    """Return where an attempt's output lies; scoped by repository, free of user text."""
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{repository_id}/{run_id}/{attempt}/{digest}"


def is_key(text: str) -> bool:
    """Return whether `text` has the shape of a key that this server makes."""
    return _KEY.match(text) is not None


def open_blob_store(url: str, state_dir: Path) -> BlobStore:
    """Return the store that the setting names.

    Raises: UserError for an address that this version cannot use.
    """
    if not url:
        return FileBlobs(state_dir / "blobs")
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return FileBlobs(Path(unquote(parts.path)))
    if parts.scheme == "gs":
        raise UserError(
            f"CYNTHUS_BLOB_URL: should be file:///PATH, found {url!r}. Cloud Storage is not"
            " supported yet: keep blobs in a folder on a durable disk."
        )
    raise UserError(f"CYNTHUS_BLOB_URL: should be file:///PATH, found {url!r}. Write such a path.")


class FileBlobs:
    """Blobs as files of one folder; the same file system makes the last step atomic."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / _INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def sweep(self) -> None:
        """Remove what an earlier process left half received. Call before the first `receive`."""
        for leftover in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                leftover.unlink()

    def receive(self, key: str, size_bytes: int, sha256: str) -> Receipt:
        """Begin to take in a blob of exactly this size and digest."""
        return _FileReceipt(self._incoming, self._path(key), size_bytes, sha256)

    def has(self, key: str, size_bytes: int, sha256: str) -> bool:
        """Return whether exactly this blob is here; reads it when the size agrees."""
        if self.size(key) != size_bytes:
            return False
        blob = self.open(key)
        if blob is None:
            return False
        with blob:
            return _digest_of(blob) == sha256

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

    def _path(self, key: str) -> Path:
        if not is_key(key):
            raise ValueError("a blob key is made by blob_key")
        return self._root / key


class _FileReceipt:
    """A temporary file that becomes the blob by one rename."""

    def __init__(self, incoming: Path, target: Path, size_bytes: int, sha256: str) -> None:
        self._target, self._size_bytes, self._sha256 = target, size_bytes, sha256
        self._digest = hashlib.sha256()
        self._received = 0
        handle, name = tempfile.mkstemp(dir=incoming)
        self._file = os.fdopen(handle, "wb", buffering=_CHUNK_BYTES)
        self._temporary: Path | None = Path(name)

    def write(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._size_bytes:
            raise BlobMismatch(
                f"body: should have {self._size_bytes} bytes, found more. Ask for a new upload."
            )
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self) -> None:
        self._check()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._target.parent.mkdir(parents=True, exist_ok=True)
        assert self._temporary is not None  # noqa: S101 - finish comes once, before abort
        self._temporary.replace(self._target)
        self._temporary = None
        _sync_folder(self._target.parent)

    def _check(self) -> None:
        if self._received != self._size_bytes:
            raise BlobMismatch(
                f"body: should have {self._size_bytes} bytes, found {self._received}."
                " Send the whole file."
            )
        if self._digest.hexdigest() != self._sha256:
            raise BlobMismatch(
                "body: should have the announced SHA-256, found another."
                " Ask for a new upload: the file has changed."
            )

    def abort(self) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None
        # On a full disk the last block cannot be written: closing says so once more.
        with suppress(OSError):
            self._file.close()


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
