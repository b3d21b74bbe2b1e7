"""Fetch files into a folder: parallel, gone on with after a cut, and nothing unproven is shown.

What has half come lies in the folder `.cynthus-pull` under the digest that it must have in the
end. Nothing leaves that folder before it is proven, so that a reader of the target never sees half
a file, and whoever begins again goes on where the bytes ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cynthus.codec import decode, encode
from cynthus.decrypting import Identity
from cynthus.errors import CynthusError, Refused, Transient, UserError
from cynthus.packing import AGE_SUFFIX, Content, PackedFile, members, unpack
from cynthus.placing import OWN_FOLDER, folded, ignores_case, place
from cynthus.tree_form import is_digest

THREADS = 4  # as the agent sends: it fills a path of 100 ms at 1 Gbit/s
_CHUNK_BYTES = 1 << 20
_TRIES = 6  # without a byte in between, with pauses about half a minute in all
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 16.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a file that has an address of its own."""

    size_bytes: int
    #: Opens it from a byte on; also returns the byte that the answer begins with, 0 where it had
    #: to be the whole.
    open: Callable[[int], tuple[Any, int]]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file to fetch."""

    path: str
    size_bytes: int
    pieces: tuple[Piece, ...]
    sha256: str | None  # None: of an archive whose members are known
    archive: bool = False
    members: Mapping[str, PackedFile] | None = None  # by their names; None: it has its own index
    prefix: str = ""  # of the paths that an index tells
    plain_size_bytes: int | None = None  # of an encrypted one
    plain_sha256: str | None = None

    @property
    def key(self) -> str:
        """Return a name for it that is another whenever its content is."""
        if self.sha256 is not None and is_digest(self.sha256):  # else it may be any path
            return self.sha256
        told = f"{self.sha256 or self.path} {self.size_bytes}"
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


class Stopped(CynthusError):  # noqa: N818 - reads as what happened
    """It was told to stop."""


@dataclass(kw_only=True)
class Standing:
    """How far it is; threads add to it."""

    total_bytes: int
    total_files: int
    bytes: int = 0
    files: int = 0
    fetched_bytes: int = 0  # of `bytes`: those that came now
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int, *, fetched: bool = True) -> None:
        """Count bytes that are there."""
        with self.lock:
            self.bytes += count
            self.fetched_bytes += count if fetched else 0


class Puller:
    """Brings items into one folder; a repeat fetches only what is missing or changed."""

    def __init__(
        self,
        folder: Path,
        *,
        identity: Identity | None = None,
        done: Callable[[str, int], None] = lambda *_: None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._folder, self._identity, self._done = folder, identity, done
        self._work = folder / OWN_FOLDER
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._taken: dict[str, str] = {}
        self._ignores_case = False

    def stop(self) -> None:
        """End soon; what has come by then is kept for the next time."""
        self._stop.set()

    def pull(self, items: Sequence[Item], standing: Standing) -> None:
        """Fetch all; faults of single files are noted in `standing` and hold up no other.

        Raises: OSError of the folder, Transient, Stopped.
        """
        if self._work.is_symlink():
            raise UserError(f"{self._work}: should be a folder of `cynthus pull`. Remove the link.")
        self._work.mkdir(parents=True, exist_ok=True)
        self._ignores_case = ignores_case(self._work)
        try:
            with ThreadPoolExecutor(THREADS, thread_name_prefix="pull") as pool:
                for future in [pool.submit(self._bring, item, standing) for item in items]:
                    try:
                        future.result()
                    except BaseException:
                        self._stop.set()
                        raise
        finally:
            with suppress(OSError):  # something is left in it for the next time
                self._work.rmdir()

    def _bring(self, item: Item, standing: Standing) -> None:
        if self._stop.is_set():
            raise Stopped("stopped")
        try:
            if item.archive and not self._is_closed(item):
                self._bring_archive(item, standing)
            else:
                self._bring_file(item, standing)
        except Refused as fault:
            with standing.lock:
                standing.faults.append(str(fault))
            return
        with standing.lock:
            standing.files += 1

    def _place(self, path: str) -> Path:
        """Return where a file goes. Raises: Refused, also where another would be overwritten."""
        if self._ignores_case:
            other = self._taken.setdefault(folded(path), path)
            if other != path:
                text = f"output {path!r}: this disk cannot tell it from {other!r}. It is left out."
                raise Refused(text)
        return place(self._folder, path)

    def _is_closed(self, item: Item) -> bool:
        """Say whether it stays encrypted, for want of a key."""
        return item.plain_sha256 is not None and self._identity is None

    # ── one file ─────────────────────────────────────────────────────────────────────────────

    def _bring_file(self, item: Item, standing: Standing) -> None:
        path, size, digest = item.path, item.size_bytes, item.sha256
        if item.plain_sha256 is not None and self._identity is not None:
            path = path.removesuffix(AGE_SUFFIX)
            size, digest = item.plain_size_bytes or 0, item.plain_sha256
        elif self._is_closed(item):
            with standing.lock:
                standing.notes.append(f"{path}: stays encrypted. Give your key with --identity.")
        target = self._place(path)
        if _is_there(target, size, digest):
            standing.add(item.size_bytes, fetched=False)
        else:
            whole = self._opened(item, self._fetched(item, standing))
            whole.replace(target)
        self._done(path, size)

    def _opened(self, item: Item, file: Path) -> Path:
        """Return the file, decrypted where it was encrypted and there is a key."""
        if item.plain_sha256 is None or self._identity is None:
            return file
        plain = file.with_suffix(".plain")
        try:
            self._identity.decrypt(file, plain)
            if not _is_there(plain, item.plain_size_bytes or 0, item.plain_sha256):
                raise Refused(
                    "should have the digest that was told before it was encrypted, found another."
                )
        except Refused as fault:
            plain.unlink(missing_ok=True)
            raise Refused(f"{item.path}: {fault}") from fault
        file.unlink()
        return plain

    def _fetched(self, item: Item, standing: Standing) -> Path:
        """Return the whole file, proven. Raises: Refused, Transient, Stopped."""
        if sum(piece.size_bytes for piece in item.pieces) != item.size_bytes:
            raise Refused(f"{item.path}: should be as large as its parts, found another size.")
        file = self._work / item.key
        for resumed in (True, False):
            if not resumed or file.is_symlink():
                file.unlink(missing_ok=True)
            try:
                began_with, digest = self._fetch(item, file, standing)
            except CynthusError:
                if file.exists() and not file.stat().st_size:
                    file.unlink()  # nothing to go on with
                raise
            if item.sha256 in (None, digest):
                return file
            file.unlink()
            standing.add(-item.size_bytes)
            if not began_with:
                break
        raise Refused(
            f"{item.path}: should have the SHA-256 {item.sha256}, found another. Try again."
        )

    def _fetch(self, item: Item, file: Path, standing: Standing) -> tuple[int, str]:
        """Go on with a file to its end; return how much there was, and its digest."""
        digest, failures = hashlib.sha256(), 0
        with file.open("ab+") as opened:
            if opened.tell() > item.size_bytes:
                opened.truncate(0)
            opened.seek(0)
            while block := opened.read(_CHUNK_BYTES):
                digest.update(block)
            began = at = opened.tell()
            standing.add(began, fetched=False)
            while at < item.size_bytes:
                before = at
                try:
                    for block in self._blocks(item, at):
                        opened.write(block)
                        digest.update(block)
                        at += len(block)
                        standing.add(len(block))
                except Transient:
                    failures = 0 if at > before else failures + 1
                    if failures >= _TRIES:
                        raise
                    self._wait(min(_FIRST_PAUSE_S * 2.0**failures, _LONGEST_PAUSE_S))
        return began, digest.hexdigest()

    def _blocks(self, item: Item, at: int) -> Iterator[bytes]:
        """Yield the bytes of the piece in which a byte lies, from it on. Raises: Transient."""
        first = 0
        piece = item.pieces[0]
        for piece in item.pieces:
            if at < first + piece.size_bytes:
                break
            first += piece.size_bytes
        offset = at - first
        answer, begins = piece.open(offset)
        with closing(answer):
            skip, left = offset - begins, piece.size_bytes - offset
            while left:
                if self._stop.is_set():
                    raise Stopped("stopped")
                block = _read(answer, min(_CHUNK_BYTES, skip or left))
                if skip:
                    skip -= len(block)
                    continue
                left -= len(block)
                yield block

    # ── archives ─────────────────────────────────────────────────────────────────────────────

    def _bring_archive(self, item: Item, standing: Standing) -> None:
        noted = self._work / f"{item.key}.index"
        files = self._unpacked_before(item)
        if files is not None:
            standing.add(item.size_bytes, fetched=False)
        else:
            whole = self._opened(item, self._fetched(item, standing))
            files = self._unpack(item, whole, standing)
            noted.write_text("".join(json.dumps(encode(one)) + "\n" for one in files), "utf-8")
            whole.unlink()
        for one in files:
            self._done(one.path, one.size_bytes)

    def _unpacked_before(self, item: Item) -> list[PackedFile] | None:
        """Return the files of an archive that was unpacked by an earlier call and is all there."""
        noted = self._work / f"{item.key}.index"
        try:
            lines = noted.read_text("utf-8").splitlines()
            files = [decode(PackedFile, json.loads(line)) for line in lines]
        except (OSError, ValueError, UserError):
            return None
        there = all(
            _is_there(place(self._folder, one.path), one.size_bytes, one.sha256) for one in files
        )
        return files if there else None

    def _unpack(self, item: Item, file: Path, standing: Standing) -> list[PackedFile]:
        """Put each file of an archive where it belongs; those that must not are noted."""
        found: list[PackedFile] = []
        with file.open("rb") as opened:
            for about, content in self._members(item, opened):
                try:
                    self._put_member(about, content)
                    found.append(about)
                except Refused as fault:
                    with standing.lock:
                        standing.faults.append(str(fault))
        if item.members is not None and len(found) < len(item.members):
            missing = len(item.members) - len(found)
            raise Refused(f"{item.path}: should hold {missing} more files. Try again.")
        return found

    def _members(self, item: Item, opened: IO[bytes]) -> Iterator[tuple[PackedFile, Content]]:
        if item.members is None:
            for about, content in unpack(opened):
                path = item.prefix + about.path
                yield (
                    PackedFile(path=path, size_bytes=about.size_bytes, sha256=about.sha256),
                    content,
                )
            return
        for name, size, content in members(opened):
            wanted = item.members.get(name)
            if wanted is None or wanted.size_bytes != size:
                raise Refused(f"{item.path}: should not hold {name[:200]!r}. Try again.")
            yield wanted, content

    def _put_member(self, about: PackedFile, content: Content) -> None:
        target = self._place(about.path)
        half = self._work / f"{threading.get_ident()}.member"
        digest = hashlib.sha256()
        with half.open("wb") as file:
            while block := content.read(_CHUNK_BYTES):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != about.sha256:
            half.unlink()
            raise Refused(f"{about.path}: should have the SHA-256 {about.sha256}, found another.")
        half.replace(target)


def _read(answer: Any, size: int) -> bytes:
    """Return the next bytes, never nothing. Raises: Transient."""
    import http.client

    try:
        block: bytes = answer.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise Transient("the connection broke. Try again.") from error
    if not block:
        raise Transient("the connection ended early. Try again.")
    return block


def _is_there(target: Path, size_bytes: int, sha256: str | None) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != size_bytes:
        return False
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def total_bytes(items: Iterable[Item]) -> int:
    """Return what all of them weigh."""
    return sum(item.size_bytes for item in items)


def leftovers(folder: Path) -> int:
    """Return how many bytes wait for the next time."""
    with suppress(OSError):
        return sum(entry.stat().st_size for entry in os.scandir(folder / OWN_FOLDER))
    return 0
