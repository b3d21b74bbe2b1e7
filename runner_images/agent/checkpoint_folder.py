"""Look at a checkpoint folder, or open its files, without following what the command put there.

The command owns the folder and may swap any name for a link at any moment, and the agent may be
root: every step of a path is taken from the folder above it, and never through a link.
"""

from __future__ import annotations

import os
import secrets
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
    folders = [""]
    while folders:
        above = folders.pop()
        try:
            for name, found, link in _entries(folder, above):
                path = f"{above}{name}"
                fault = _fault(path, found, link)
                if fault is not None:
                    left_out[path] = fault
                elif stat.S_ISDIR(found.st_mode):
                    folders.append(f"{path}/")
                else:
                    files[path] = _stamp(found, link)
        except (FileNotFoundError, NotADirectoryError):
            continue  # it has gone, or is something else by now: the next look tells
        except OSError as error:
            left_out[above or "."] = f"the agent may not look into it ({error.strerror})"
    return Look(at_ns, files, left_out)


def _entries(folder: Path, above: str) -> Iterator[tuple[str, os.stat_result, str | None]]:
    """Yield what lies in one folder: each name is judged once, so that nothing is two things."""
    with _above(folder, f"{above}.") as (number, _), os.scandir(number) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                is_link = stat.S_ISLNK(found.st_mode)
                link = os.readlink(entry.name, dir_fd=number) if is_link else None
                yield entry.name, found, link


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
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
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
            _remove(folder, entry.name)
        else:
            os.unlink(entry.path)


def _remove(folder: Path, name: str) -> None:
    """Remove a folder with all in it, however deep it is. Raises: OSError."""
    try:
        shutil.rmtree(folder / name)
    except (RecursionError, OSError):
        number = os.open(folder, _FOLDER)
        try:
            _remove_deep(number, name)
        finally:
            os.close(number)


def _remove_deep(top: int, name: str) -> None:
    """Move what is deep up, so that neither Python's stack nor open files run out."""
    waiting = [name]
    while waiting:
        above = os.open(waiting[-1], _FOLDER, dir_fd=top)
        found = []
        try:
            for child in os.listdir(above):
                if stat.S_ISDIR(os.stat(child, dir_fd=above, follow_symlinks=False).st_mode):
                    found.append(f".{secrets.token_hex(8)}")
                    os.rename(child, found[-1], src_dir_fd=above, dst_dir_fd=top)
                else:
                    os.unlink(child, dir_fd=above)
        finally:
            os.close(above)
        os.rmdir(waiting.pop(), dir_fd=top)
        waiting += found


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
