"""Look at a checkpoint folder, or open its files, without following what the command put there.

The command owns the folder and may swap any name for a link at any moment, and the agent may be
root: every step of a path is taken from the folder above it, and never through a link.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

from cynthus.wire_checkpoint import leaves_folder
from runner_images.agent.checkpoint_rules import Look, Stamp

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
_LONGEST_PATH_BYTES = 1024  # as of an output
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
FOLDER_MODE, FILE_MODE, EXECUTABLE_MODE = 0o777, 0o666, 0o777  # the command is another user


def look(folder: Path, now_ns: Callable[[], int]) -> Look:
    """Return what lies in the folder; what vanishes meanwhile is not there."""
    files: dict[str, Stamp] = {}
    left_out: dict[str, str] = {}
    at_ns = now_ns()
    for above, _, names, number in _walked(folder):
        for name in names:
            path = f"{above}{name}"
            with suppress(OSError):
                found = os.stat(name, dir_fd=number, follow_symlinks=False)
                link = os.readlink(name, dir_fd=number) if stat.S_ISLNK(found.st_mode) else None
                fault = _fault(path, found, link)
                if fault is None:
                    files[path] = _stamp(found, link)
                else:
                    left_out[path] = fault
    return Look(at_ns, files, left_out)


def _walked(folder: Path) -> Iterator[tuple[str, list[str], list[str], int]]:
    """Yield each folder's path with a slash, its folders, its other names, and its handle."""
    with suppress(FileNotFoundError):
        for top, folders, names, number in os.fwalk(folder):
            above = os.path.relpath(top, folder)
            links = [n for n in folders if _is_link(n, number)]
            yield "" if above == "." else f"{above}/", folders, [*names, *links], number


def _is_link(name: str, number: int) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=number, follow_symlinks=False).st_mode)
    return False


def _stamp(found: os.stat_result, link: str | None) -> Stamp:
    return Stamp(
        size_bytes=0 if link is not None else found.st_size,
        modified_ns=found.st_mtime_ns,
        inode=found.st_ino,
        executable=bool(found.st_mode & stat.S_IXUSR) and link is None,
        link=link,
    )


def _fault(path: str, found: os.stat_result, link: str | None) -> str | None:
    try:
        name = path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if any(byte < 32 or byte == 127 for byte in name):  # noqa: PLR2004 - ASCII's control characters
        return "its name has control characters"
    if len(name) > _LONGEST_PATH_BYTES:
        return f"its path is longer than {_LONGEST_PATH_BYTES} bytes"
    if link is not None:
        return "a link out of the folder" if leaves_folder(path, link) else None
    if stat.S_ISREG(found.st_mode):
        return None
    return next((kind for test, kind in _KINDS if test(found.st_mode)), "a device")


@contextmanager
def opened(folder: Path, path: str) -> Iterator[BinaryIO]:
    """Open a regular file below the folder for reading. Raises: OSError."""
    with _above(folder, path) as (number, name):
        file = os.open(name, _PLAIN, dir_fd=number)
    with os.fdopen(file, "rb", buffering=0) as content:
        if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
            raise OSError("no regular file")
        yield content


@contextmanager
def _above(folder: Path, path: str) -> Iterator[tuple[int, str]]:
    """Open the folder in which the last part of `path` lies."""
    *parts, name = path.split("/")
    number = os.open(folder, _FOLDER)
    try:
        for part in parts:
            below = os.open(part, _FOLDER, dir_fd=number)
            os.close(number)
            number = below
        yield number, name
    finally:
        os.close(number)


def still(content: BinaryIO, stamp: Stamp) -> bool:
    """Say whether an open file is the one that was looked at, unchanged until now."""
    found = os.fstat(content.fileno())
    return (found.st_size, found.st_mtime_ns, found.st_ino) == (
        stamp.size_bytes,
        stamp.modified_ns,
        stamp.inode,
    )


class Held:
    """Files kept readable as they were, although they are renamed over or deleted meanwhile.

    Hard links in a folder of our own: a rotating set of checkpoints loses its oldest member while
    that is read. A file that may not be linked is read where it lies.
    """

    def __init__(self, folder: Path, place: Path) -> None:
        self._folder, self._place = folder, place
        self._held: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._place.mkdir(mode=0o700, exist_ok=True)
        self._empty()
        return self

    def __exit__(self, *_: object) -> None:
        self._empty()
        with suppress(OSError):
            self._place.rmdir()

    def _empty(self) -> None:
        for entry in os.scandir(self._place):
            os.unlink(entry.path)

    def hold(self, files: Mapping[str, Stamp]) -> None:
        """Hold these files."""
        for count, path in enumerate(files):
            with suppress(OSError), _above(self._folder, path) as (number, name):
                os.link(name, self._place / str(count), src_dir_fd=number, follow_symlinks=False)
                self._held[path] = str(count)

    @contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        """Open one of them. Raises: OSError."""
        name = self._held.get(path)
        with opened(self._folder, path) if name is None else opened(self._place, name) as content:
            yield content


@contextmanager
def made(folder: Path, path: str, *, executable: bool) -> Iterator[BinaryIO]:
    """Make a new file below the folder, with the folders above it. Raises: OSError."""
    target = folder / path
    make_folders(folder, target.parent)
    mode = EXECUTABLE_MODE if executable else FILE_MODE
    number = os.open(
        target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with os.fdopen(number, "w+b") as content:
        yield content
        os.fchmod(content.fileno(), mode)


def make_folders(folder: Path, below: Path) -> None:
    """Make `below` and what is between, writable for the command. Safe to repeat."""
    missing = [below, *below.parents]
    for place in reversed(missing[: missing.index(folder)]):
        with suppress(FileExistsError):
            place.mkdir()
            place.chmod(FOLDER_MODE)


def emptied(folder: Path) -> None:
    """Make the folder, writable for the command, or leave nothing in it. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    if os.geteuid():  # root needs nobody's leave
        with suppress(OSError):  # a file system without access lists: what we may not read is said
            let_in(folder, os.geteuid())
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def let_in(folder: Path, user: int) -> None:
    """Let a user read, link and remove whatever others will make below the folder.

    The command is another user, and its folders would be closed to an agent that is not root. The
    format: https://man7.org/linux/man-pages/man5/acl.5.html, include/uapi/linux/posix_acl_xattr.h
    Raises: OSError where the file system has no access lists.
    """
    everything, nobody = 0o7, 0xFFFFFFFF
    entries = (
        (_USER_OBJ, nobody),
        (_USER, user),
        (_GROUP_OBJ, nobody),
        (_MASK, nobody),
        (_OTHER, nobody),
    )
    told = b"".join(struct.pack("<HHI", tag, everything, who) for tag, who in entries)
    os.setxattr(folder, "system.posix_acl_default", struct.pack("<I", _ACL_VERSION) + told)
