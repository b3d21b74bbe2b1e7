"""Keep data on the instance's disk between runs: one repository's blobs and trees.

    <cache dir>/<repository id>/blobs/<sha256>       the bytes, each once
                                trees/<key>/…        hard links to them: what is mounted
                                trees/<key>.json     what the tree consists of
                                locks/<key>          shared: in use; exclusive: being made
                                work/<key>/          what is on its way, kept over a cut

A lock ends with the process that holds it, however it ends. Nothing here looks into the folder of
another repository.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cynthus.wire_data import Tree, TreeFile

KEY = re.compile(r"[0-9a-f]{64}")
# Every blob's modification time. Whoever writes to one changes it: then its bytes are not
# believed any more. 2 January 1980, which every file system and archive format can tell.
STAMP_S = 315_619_200
DISK_FLOOR_BYTES = 256 << 20  # left free: below it neither logs nor outputs could be saved
AGE_LIMIT_S = 14 * 86_400.0  # a tree that nobody used for two weeks goes, room or not
FOLDER_MODE, FILE_MODE, PROGRAM_MODE = 0o755, 0o444, 0o555


class Held:
    """A whole tree that is in use: it stays until `release`."""

    def __init__(self, folder: Path, tree: Tree, lock: int) -> None:
        self.folder = folder
        self.tree = tree
        self._lock = lock

    def release(self) -> None:
        """Let it go; safe to repeat."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One tree that lies here."""

    key: str
    used_at: float  # seconds since 1970, as the file system has them
    size_bytes: int


class DiskCache:
    """What one repository has on this disk."""

    def __init__(self, cache_dir: Path, repository_id: int, *, now: Callable[[], float]) -> None:
        self.folder = cache_dir / str(repository_id)
        self._now = now
        for name in ("blobs", "trees", "locks", "work"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        # A container's user looks into a tree, never into the folders above it.
        self._trees = self.folder / "trees"

    # ── trees ────────────────────────────────────────────────────────────────────────────────

    def hold(self, key: str) -> Held | None:
        """Return the whole tree of this key, in use from now on; None: it is not here.

        A tree that somebody wrote to is not believed: it goes, with the blobs concerned.
        """
        lock = self._lock(key, fcntl.LOCK_SH)
        if lock is None:
            return None  # being made, or thrown away
        folder = self._trees / key
        tree = self._described(key) if folder.is_dir() else None
        if tree is None or not self._untouched(folder, tree):
            os.close(lock)
            if tree is not None:
                self._drop(key, spoilt=tree)
            return None
        os.utime(self._trees / f"{key}.json", (self._now(), self._now()))
        return Held(folder, tree, lock)

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[Making | None]:
        """Be the only one who makes this tree; None: another one does, or uses it."""
        lock = self._lock(key, fcntl.LOCK_EX)
        if lock is None:
            yield None
            return
        try:
            yield Making(self, key)
        finally:
            os.close(lock)

    def _lock(self, key: str, kind: int) -> int | None:
        if not KEY.fullmatch(key):
            raise ValueError(f"key {key!r}: should be 64 hex digits")
        path = self.folder / "locks" / key
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(number, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            return None
        return number

    def _described(self, key: str) -> Tree | None:
        try:
            found = json.loads((self._trees / f"{key}.json").read_bytes())
            files = (
                TreeFile(path=path, size_bytes=size, sha256=sha256, executable=bool(program))
                for path, size, sha256, program in found["files"]
            )
            return Tree(
                key=key,
                revision=found["revision"],
                files=tuple(files),
                archive_sha256=found["archive_sha256"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _untouched(self, folder: Path, tree: Tree) -> bool:
        return all(_is_kept(folder / file.path, file) for file in tree.files)

    def blob(self, file: TreeFile) -> Path:
        """Return where a file's bytes lie, if they do: the mode is part of an inode."""
        return self.folder / "blobs" / (file.sha256 + ("-x" if file.executable else ""))

    def has(self, file: TreeFile) -> bool:
        """Say whether a file's bytes lie here, as they were."""
        return _is_kept(self.blob(file), file)

    # ── room ─────────────────────────────────────────────────────────────────────────────────

    def free_bytes(self) -> int:
        """Return how much the disk has left."""
        return shutil.disk_usage(self.folder).free

    def kept(self) -> list[Kept]:
        """Return the whole trees, the longest unused first."""
        found = []
        for description in self._trees.glob("*.json"):
            with contextlib.suppress(OSError):
                key = description.stem
                tree = self._described(key)
                size = sum(file.size_bytes for file in tree.files) if tree else 0
                at = description.stat().st_mtime
                found.append(Kept(key=key, used_at=at, size_bytes=size))
        return sorted(found, key=lambda one: one.used_at)

    def make_room(self, need_bytes: int) -> int:
        """Throw away unused trees, oldest first, until so much is free; return what is free."""
        for kept in self.kept():
            if self.free_bytes() >= need_bytes:
                break
            self._drop(kept.key)
        if self.free_bytes() < need_bytes:
            for left in self.folder.glob("work/*"):  # of makers who were cut off
                self._clean_left(left.name)
        return self.free_bytes()

    def forget_old(self) -> None:
        """Throw away what was unused for two weeks, and what makers left who are gone."""
        oldest = self._now() - AGE_LIMIT_S
        for kept in self.kept():
            if kept.used_at < oldest:
                self._drop(kept.key)
        for left in self.folder.glob("work/*"):
            if left.stat().st_mtime < oldest:
                self._clean_left(left.name)

    def _clean_left(self, key: str) -> None:
        with self.making(key) as making:
            if making is not None:
                making.clean()

    def _drop(self, key: str, spoilt: Tree | None = None) -> bool:
        """Remove one tree and the blobs that only it had, unless somebody uses it."""
        with self.making(key) as making:
            if making is None:
                return False
            tree = spoilt or self._described(key)
            (self._trees / f"{key}.json").unlink(missing_ok=True)
            gone = self._trees / f".{key}.gone"
            with contextlib.suppress(FileNotFoundError):
                (self._trees / key).rename(gone)
            remove_tree(gone)
            for file in tree.files if tree else ():
                self._drop_blob(file, spoilt=spoilt is not None)
        return True

    def _drop_blob(self, file: TreeFile, *, spoilt: bool) -> None:
        blob = self.blob(file)
        with contextlib.suppress(FileNotFoundError):
            # A blob is linked into a tree before it gets its name here: alone, it is nobody's.
            if blob.stat().st_nlink == 1 or (spoilt and not _is_kept(blob, file)):
                blob.unlink()


class Making:
    """The right to make one tree, while its lock is held."""

    def __init__(self, cache: DiskCache, key: str) -> None:
        self._cache = cache
        self._key = key
        self.work = cache.folder / "work" / key
        self.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._new = cache.folder / "trees" / f".{key}.new"

    def place(self, content: Path, file: TreeFile) -> None:
        """Move a hashed file into the tree; its bytes lie here once, however often they come."""
        target = self._target(file)
        content.chmod(PROGRAM_MODE if file.executable else FILE_MODE)
        os.utime(content, (STAMP_S, STAMP_S))
        content.replace(target)
        blob = self._cache.blob(file)
        try:
            os.link(target, blob)
        except FileExistsError:
            self.take(file)
        except OSError as error:
            if error.errno != errno.EMLINK:  # as many names as the file system allows
                raise

    def take(self, file: TreeFile) -> bool:
        """Link bytes that lie here already into the tree; False: they do not."""
        if not self._cache.has(file):
            return False
        target = self._target(file)
        fresh = target.with_name(f".{os.getpid()}.link")
        try:
            os.link(self._cache.blob(file), fresh)
        except OSError:  # thrown away just now, or as many names as there may be
            return target.exists()
        fresh.replace(target)
        fresh.unlink(missing_ok=True)  # a rename onto another name of the same file does nothing
        return True

    def _target(self, file: TreeFile) -> Path:
        target = self._new / file.path
        if not target.parent.is_dir():
            target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return target

    def commit(self, tree: Tree) -> None:
        """Let the tree appear, whole or not at all."""
        cache, key = self._cache, self._key
        self._new.mkdir(mode=FOLDER_MODE, exist_ok=True)
        for above, folders, _ in os.walk(self._new):
            for name in folders:
                os.chmod(os.path.join(above, name), FOLDER_MODE)  # whatever the umask took
        self._new.chmod(FOLDER_MODE)
        body = {
            "revision": tree.revision,
            "archive_sha256": tree.archive_sha256,
            "files": [[f.path, f.size_bytes, f.sha256, int(f.executable)] for f in tree.files],
        }
        description = cache.folder / "trees" / f"{key}.json"
        unfinished = description.with_name(f".{key}.json")
        unfinished.write_text(json.dumps(body), "utf-8")
        folder = cache.folder / "trees" / key
        remove_tree(folder)  # without its description it was never whole
        self._new.rename(folder)
        unfinished.replace(description)
        self.clean()

    def clean(self) -> None:
        """Leave nothing of what was on its way."""
        remove_tree(self.work)
        remove_tree(self._new)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it; safe to repeat."""
    shutil.rmtree(folder, ignore_errors=True)


def _is_kept(path: Path, file: TreeFile) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_size == file.size_bytes and found.st_mtime_ns == STAMP_S * 10**9
