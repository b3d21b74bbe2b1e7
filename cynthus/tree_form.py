"""Write the list of a dataset's files as lines of JSON, or read it back, line by line.

The first line says what it is a list of, each other line names one file, in the order of their
paths. A list of any length is written and checked in the memory of one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from cynthus.codec import decode, encode
from cynthus.errors import UserError
from cynthus.wire_data import Tree, TreeFile

#: A list of so many files has some 60 MiB. Hubs ask their users for far fewer (100,000 files):
#: https://huggingface.co/docs/hub/storage-limits
FILES_LIMIT = 400_000
LIST_LIMIT_BYTES = 128 << 20
#: A path has at most 4,096 bytes (PATH_MAX), JSON writes each as up to six; and a digest.
_LINE_LIMIT = 32 << 10
_PATH_LIMIT = 4096
_BLOCK_BYTES = 1 << 20  # some thousand lines a read or write
_NO_LIST = "list: should have whole lines of JSON. Write it again."
_NAME_LIMIT = 255  # bytes: NAME_MAX of every file system that instances use
T = TypeVar("T")
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, kw_only=True)
class TreeHead:
    """What a list is of."""

    key: str
    revision: str
    files: int
    size_bytes: int  # of all files together
    archive_sha256: str | None = None


def is_digest(text: str) -> bool:
    """Return whether this is a SHA-256, or a dataset's key: 64 hex digits in lower case."""
    return len(text) == 64 and _HEX.issuperset(text)  # noqa: PLR2004 - of SHA-256


def written(tree: Tree) -> Iterator[bytes]:
    """Yield the lines of a tree's list: equal trees have equal bytes."""
    files = sorted(tree.files, key=lambda file: file.path)
    head = TreeHead(
        key=tree.key,
        revision=tree.revision,
        files=len(files),
        size_bytes=sum(file.size_bytes for file in files),
        archive_sha256=tree.archive_sha256,
    )
    yield _line(head)
    for file in files:
        yield _line(file)


def _line(value: object) -> bytes:
    return json.dumps(encode(value), separators=(",", ":")).encode() + b"\n"


def lines_of(content: BinaryIO) -> Iterator[bytes]:
    """Yield the lines, read in blocks. Raises: UserError for one that no list has."""
    rest = b""
    while block := content.read(_BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _LINE_LIMIT:
            raise UserError(_NO_LIST)
        yield from lines
    if rest:
        raise UserError(_NO_LIST)


def read_head(lines: Iterator[bytes]) -> TreeHead:
    """Read the first line. Raises: UserError."""
    head = _read(TreeHead, next(lines, b""))
    if not 0 <= head.files <= FILES_LIMIT:
        raise UserError(
            f"list: should have at most {FILES_LIMIT} files, found {head.files}."
            " Pack some of them together."
        )
    return head


def read_files(lines: Iterator[bytes], head: TreeHead) -> Iterator[TreeFile]:
    """Yield the files after the first line, each checked, and no more nor fewer than it says.

    Raises: UserError.
    """
    last, count, size = "", 0, 0
    for line in lines:
        file = _read(TreeFile, line)
        fault = file_fault(file)
        if fault is None and count and file.path <= last:
            fault = "list: should name each path once, in order. Sort it."
        count, size, last = count + 1, size + file.size_bytes, file.path
        if fault is None and count > head.files:
            fault = f"list: should have {head.files} files, found more. Count them."
        if fault is not None:
            raise UserError(fault)
        yield file
    if (count, size) != (head.files, head.size_bytes):
        raise UserError(
            f"list: should have {head.files} files with {head.size_bytes} bytes, found {count}"
            f" with {size}. Write it whole."
        )


def read_tree(content: BinaryIO) -> Tree:
    """Read the whole list. Raises: UserError."""
    lines = lines_of(content)
    head = read_head(lines)
    return Tree(
        key=head.key,
        revision=head.revision,
        files=tuple(read_files(lines, head)),
        archive_sha256=head.archive_sha256,
    )


def file_fault(file: TreeFile) -> str | None:
    """Return what keeps a file from being staged, or None: its path leads nowhere else."""
    if path_fault(file.path):
        return f"path: should stay within its folder, found {file.path[:100]!r}. Leave it out."
    if file.size_bytes < 0 or not is_digest(file.sha256):
        return f"{file.path[:100]!r}: should have a size and a SHA-256. Hash it."
    return None


def path_fault(path: str) -> bool:
    """Return whether a path is not a plain relative one that every file system takes."""
    try:
        spelled = path.encode()
    except UnicodeEncodeError:
        return True
    names = spelled.split(b"/")
    if len(spelled) > _PATH_LIMIT or any(byte < 32 or byte == 127 for byte in spelled):  # noqa: PLR2004 - ASCII's control characters
        return True
    return any(not 0 < len(name) <= _NAME_LIMIT or name in {b".", b".."} for name in names)


def crossing(paths: Iterable[str]) -> str | None:
    """Return a path that is there twice, or is a file where another needs a folder; None: none."""
    names: set[str] = set()
    for path in paths:
        if path in names:
            return path
        names.add(path)
    for path in names:
        above = path.rpartition("/")[0]
        while above:
            if above in names:
                return above
            above = above.rpartition("/")[0]
    return None


def _read(kind: type[T], line: bytes) -> T:
    if len(line) > _LINE_LIMIT:
        raise UserError(_NO_LIST)
    try:
        return decode(kind, json.loads(line))
    except ValueError as error:
        raise UserError(_NO_LIST) from error


def joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines in blocks: one write for some thousand of them."""
    block = bytearray()
    for line in lines:
        block += line
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
