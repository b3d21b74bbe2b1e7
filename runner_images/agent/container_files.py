"""Read files out of a container as a stream: nothing is unpacked to this machine's disk by name."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from runner_images.agent.patterns import fixed_part, matches
from runner_images.agent.workload import Found

if TYPE_CHECKING:
    from docker import APIClient

WORKSPACE = "/workspace"
CHUNK_BYTES = 256 * 1024
_REASONS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}


def outputs(engine: APIClient, container: str, patterns: tuple[str, ...]) -> Iterator[Found]:
    """Yield every file that a pattern names, once; what is no regular file comes with a reason."""
    seen: set[str] = set()
    for pattern in patterns:
        found = False
        for item in _below(engine, container, fixed_part(pattern)):
            if not matches(pattern, item.path):
                continue
            found = True
            if item.path not in seen:
                seen.add(item.path)
                yield item
        if not found and pattern not in seen:
            seen.add(pattern)
            yield Found(path=pattern, left_out="nothing was there when the command ended")


def _below(engine: APIClient, container: str, fixed: str) -> Iterator[Found]:
    link = _link_above(engine, container, fixed)
    if link is not None:
        yield Found(path=fixed, left_out=f"{link} is a symbolic link")
        return
    start = f"{WORKSPACE}/{fixed}".rstrip("/")
    base = PurePosixPath(start).parent
    for item in members(engine, container, start):
        whole = str(base / item.path)
        path = whole.removeprefix(WORKSPACE + "/")
        if whole != path:
            yield Found(
                path=path,
                size_bytes=item.size_bytes,
                content=item.content,
                again=None if item.content is None else partial(_again, engine, container, whole),
                left_out=item.left_out,
            )


def _link_above(engine: APIClient, container: str, fixed: str) -> str | None:
    """Return the folder on the way to `fixed` that is a link: it may lead out of the workspace."""
    for above in reversed(PurePosixPath(fixed).parents[:-1]):
        stat = _stat(engine, container, f"{WORKSPACE}/{above}")
        if stat is not None and stat.get("linkTarget"):
            return str(above)
    return None


def _stat(engine: APIClient, container: str, path: str) -> dict[str, Any] | None:
    from docker.errors import APIError

    try:
        stream, stat = engine.get_archive(container, path)
    except APIError:
        return None
    _close(stream)
    return dict(stat)


def members(engine: APIClient, container: str, path: str) -> Generator[Found]:
    """Yield the files at or below `path`, named as in the archive; nothing when it is absent."""
    from docker.errors import APIError

    try:
        stream, _ = engine.get_archive(container, path, chunk_size=CHUNK_BYTES)
    except APIError:
        return
    hard_links: list[str] = []
    try:
        # The error handler keeps names that are no UTF-8 recognisable.
        with tarfile.open(
            fileobj=_Reader(stream),
            mode="r|",
            bufsize=CHUNK_BYTES,
            errors="surrogateescape",
        ) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember all names
                if member.islnk():
                    hard_links.append(member.name)
                elif not member.isdir():
                    yield _found(archive, member)
    except (tarfile.TarError, OSError) as error:
        yield Found(path=PurePosixPath(path).name, left_out=f"cannot be read: {error}")
    finally:
        _close(stream)
    yield from _linked(engine, container, path, hard_links)


def _linked(engine: APIClient, container: str, path: str, names: list[str]) -> Iterator[Found]:
    """Read what the archive has only as a link to an earlier name: alone it is a file."""
    for name in names:
        for item in members(engine, container, f"{PurePosixPath(path).parent}/{name}"):
            yield Found(
                path=name, size_bytes=item.size_bytes, content=item.content, left_out=item.left_out
            )


def _found(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Found:
    if not member.isreg():
        return Found(path=member.name, left_out=_REASONS.get(member.type, "no regular file"))
    content = archive.extractfile(member)
    return Found(path=member.name, size_bytes=member.size, content=_as_binary(content))


def _again(engine: APIClient, container: str, path: str) -> BinaryIO:
    return cast("BinaryIO", _Again(engine, container, path))


class _Again(io.RawIOBase):
    """One file of the container, read once more from its beginning. Raises: OSError."""

    def __init__(self, engine: APIClient, container: str, path: str) -> None:
        super().__init__()
        self._members = members(engine, container, path)
        found = next(self._members, None)
        if found is None or found.content is None:
            raise OSError("it is not there any more")
        self._content = found.content

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._content.read(size)

    def close(self) -> None:
        if not self.closed:
            self._members.close()
        super().close()


def _as_binary(content: Any) -> Any:
    return content if content is not None else io.BytesIO()


class _Reader(io.RawIOBase):
    """The engine's chunks as a file that tarfile can read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]


def _close(stream: Any) -> None:
    """End the engine's answer without reading the rest of it."""
    with contextlib.suppress(AttributeError, ValueError):
        stream.close()
