"""Pack a source into the one layer that a run's image adds to its environment."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from action.failures import BuildFailed
from action.image import compress, tar_entry
from action.image.compress import Compression
from action.image.tar_entry import Entry
from action.source.source import Item, Kind, Selection, shown

# Read, hashed and handed on at once: less costs more calls, more saves nothing.
_CHUNK_BYTES = 256 << 10
# What is there even without a source. `home` comes too, since a folder above that no layer names
# is made unreadable by some unpackers; its owner is root, as in every base image.
_FOLDERS = (
    Entry(name=b"home", kind=tar_entry.FOLDER, mode=0o755, owner=0),
    Entry(name=b"home/workload", kind=tar_entry.FOLDER, mode=0o755),
    Entry(name=b"workspace", kind=tar_entry.FOLDER, mode=0o755),
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A packed layer on disk."""

    path: Path
    digest: str  # sha256:… of the file: what the registry calls it
    diff_id: str  # sha256:… of the archive in it: what the image's config calls it
    size_bytes: int
    unpacked_bytes: int
    compression: Compression  # what was used: gzip where zstd was wanted and is not there


def pack(
    selection: Selection,
    folder: Path,
    *,
    compression: Compression = "gzip",
    told: Callable[[int], None] = lambda _: None,
) -> Layer:
    """Write the layer into `folder` and return it; `told` hears the bytes of source read so far.

    Equal files give an equal `diff_id` on every machine, and an equal digest wherever the same
    zlib compresses. Memory: half a MiB a core and one more; the disk holds the layer alone.
    Safe to repeat: the same name is written again.
    Raises: BuildFailed when a file is not what it was when it was selected; OSError (disk full).
    """
    path = folder / "source-layer"
    raw, packed = hashlib.sha256(), _Hashed()
    unpacked_bytes = 0
    with path.open("wb") as packed.file:
        work = compress.compressor(compression, packed.put)
        try:
            for piece in _gathered(_archive(selection, told)):
                raw.update(piece)
                unpacked_bytes += len(piece)
                work.write(piece)
            work.finish()
        finally:
            work.close()
    return Layer(
        path=path,
        digest=f"sha256:{packed.sum.hexdigest()}",
        diff_id=f"sha256:{raw.hexdigest()}",
        size_bytes=packed.size_bytes,
        unpacked_bytes=unpacked_bytes,
        compression=work.name,
    )


class _Hashed:
    """A file that is hashed while it is written."""

    file: BinaryIO

    def __init__(self) -> None:
        self.sum = hashlib.sha256()
        self.size_bytes = 0

    def put(self, part: bytes) -> None:
        self.sum.update(part)
        self.size_bytes += len(part)
        self.file.write(part)


def _archive(selection: Selection, told: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the archive in pieces of any size."""
    for entry in _FOLDERS:
        yield tar_entry.header(entry)
    done = 0
    for item in selection.items:
        yield tar_entry.header(_entry(item))
        if item.kind is not Kind.FILE:
            continue
        for part in _content(selection.folder, item):
            yield part
            done += len(part)
            told(done)
        yield tar_entry.padding(item.size_bytes)
    yield tar_entry.END


def _entry(item: Item) -> Entry:
    name = b"workspace/" + os.fsencode(item.path)
    match item.kind:
        case Kind.FOLDER:
            return Entry(name=name, kind=tar_entry.FOLDER, mode=0o755)
        case Kind.LINK:
            target = os.fsencode(item.target)
            return Entry(name=name, kind=tar_entry.LINK, mode=0o777, target=target)
        case Kind.FILE:
            mode = 0o755 if item.executable else 0o644
            size_bytes = item.size_bytes
            return Entry(name=name, kind=tar_entry.FILE, mode=mode, size_bytes=size_bytes)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces, so that hashing and compressing are called a few times only."""
    held: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        held.append(piece)
        size_bytes += len(piece)
        if size_bytes >= _CHUNK_BYTES:
            yield b"".join(held)
            held.clear()
            size_bytes = 0
    yield b"".join(held)


# Neither a link nor a pipe put in the file's place meanwhile is followed or waited for.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def _content(folder: Path, item: Item) -> Iterator[bytes]:
    """Yield a file's content, which must be what was selected: its header has been written."""
    try:
        handle = os.open(f"{folder}/{item.path}", _OPEN)
    except OSError as error:
        raise _changed(item, error.strerror or str(error)) from error
    try:
        left, ended = item.size_bytes, False
        while not ended:
            asked = min(left + 1, _CHUNK_BYTES)  # one byte more shows that it grew
            part = os.read(handle, asked)
            left -= len(part)
            ended = not part or (left == 0 and len(part) < asked)
            if left < 0 or (ended and left):
                raise _changed(item, "another size")
            yield part
        if os.fstat(handle).st_mtime_ns != item.changed_ns:
            raise _changed(item, "it was written to")
    except OSError as error:
        raise _changed(item, error.strerror or str(error)) from error
    finally:
        os.close(handle)


def _changed(item: Item, how: str) -> BuildFailed:
    return BuildFailed(
        f"{shown(item.path)}: should stay as it is while the image is made, found: {how}. "
        f"Let nothing write into the source meanwhile, and run this again."
    )
