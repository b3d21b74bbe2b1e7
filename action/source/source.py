"""Say which files of the source belong in an image, which do not, and why."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from action.amounts import size
from action.source import ignore, likely_secrets, own_file, walk
from cynthus.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a source may not exceed; for a run's image they are constants, not settings."""

    # The largest file that Git LFS takes on GitHub's free plans: what is larger was not committed
    # but fetched or made by the job, and belongs under `data:`.
    # https://docs.github.com/en/repositories/working-with-files/managing-large-files/about-git-large-file-storage
    file_bytes: int = 2 << 30
    # GHCR refuses a layer above 10 GB:
    # https://docs.github.com/en/packages/working-with-a-github-packages-registry/working-with-the-container-registry
    total_bytes: int = 10_000_000_000
    # Twice the largest repositories that people train from; each costs every machine that unpacks
    # it a few system calls, and the walk stops here.
    files: int = 200_000


LIMITS = Limits()
# Linux counts the end mark too: https://man7.org/linux/man-pages/man7/path_resolution.7.html
LONGEST_PATH_BYTES = 4095 - len("/workspace/")
_SURELY_SHORT = LONGEST_PATH_BYTES // 4  # characters: UTF-8 takes at most four bytes for one
_LARGEST_IGNORE_BYTES = 1 << 20  # a line for each of ten thousand files
_SHOWN = 10  # files named in one error; more would bury the remedy


class Kind(StrEnum):
    """What an item is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that goes into the image."""

    path: str  # relative to the source, with `/`; undecodable bytes as os.fsdecode gives them
    kind: Kind
    size_bytes: int = 0  # of a file's content; a hole in it counts as the zeros that it reads as
    executable: bool = False  # the only part of a file's mode that is kept, as in git
    target: str = ""  # of a link
    changed_ns: int = 0  # a file's last change: what was judged must be what is packed


class Why(StrEnum):
    """Why something was left out that no ignore file names."""

    SECRET = "likely secret"  # noqa: S105 - a reason
    LINK = "link out of the source"
    SPECIAL = "neither file, folder nor link"
    WHITEOUT = "name that deletes files in a layer"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something left out that its owner may miss."""

    path: str
    why: Why
    what: str  # half a sentence, the path before it: "seems to hold a GitHub token"
    line: int | None = None  # counts from 1
    folder: bool = False  # with all that is in it


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What goes into the image, sorted by the bytes of the paths."""

    folder: Path
    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]
    let_in: tuple[str, ...]  # likely secrets and large files that `.cynthusignore` names
    size_bytes: int

    @property
    def files(self) -> int:
        """Return how many files there are."""
        return sum(item.kind is Kind.FILE for item in self.items)


def rules_of(folder: Path, *names: str) -> ignore.Ignore:
    """Return the rules of a folder: of the first Docker ignore file, then of `.cynthusignore`.

    `names` come before `.dockerignore`, as `NAME.dockerignore` does for a Dockerfile NAME.
    Raises: UserError for a line that is no pattern, and for a link out of the folder.
    """
    rules = ignore.Ignore()
    for name in (*names, ignore.DOCKER_NAME):
        if (folder / name).is_file():
            rules = _rules(folder, name)
            break
    own = (folder / ignore.OWN_NAME).is_file()
    return rules.then(_rules(folder, ignore.OWN_NAME)) if own else rules


def _rules(folder: Path, name: str) -> ignore.Ignore:
    try:
        raw = own_file.read(folder, name, _LARGEST_IGNORE_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{name}: should be a readable file of the source, found: {error.strerror}. Commit "
            f"the file itself."
        ) from None
    if len(raw) > _LARGEST_IGNORE_BYTES:
        raise UserError(f"{name}: should be at most 1 MiB, found more. Name folders in it.")
    return ignore.parse(raw, name)


def select(
    root: Path, src: str, rules: ignore.Ignore, *, limits: Limits | None = LIMITS
) -> Selection:
    """Choose among the files of the folder `src` of the repository at `root`.

    Without `limits` any size is taken. Safe to repeat; reads the text of small files.
    Raises: UserError for a folder or a file that cannot be read or taken.
    """
    choice = _Choice(_folder(root, src), rules, limits)
    try:
        for found in walk.kept(choice.folder, rules):
            choice.take(found)
    except OSError as error:
        raise _unreadable(choice.folder, error) from error
    return choice.done()


def shown(path: str) -> str:
    """Return a path as it may be printed: one line, no byte that a terminal acts on."""
    return "".join(
        sign if sign.isprintable() else ascii(sign)[1:-1].replace("\\udc", "\\x") for sign in path
    )


def sentences(chosen: Selection) -> tuple[str, ...]:
    """Say what was left out and what was let in, one sentence each, without end mark."""
    told = []
    for one in chosen.left_out:
        where = shown(one.path) + (f":{one.line}" if one.line else "")
        told.append(f"{where} {one.what}; it is left out{_way_in(one)}")
    let_in = (f"{shown(path)} is let in: {ignore.OWN_NAME} names it" for path in chosen.let_in)
    return (*told, *let_in)


def _way_in(one: LeftOut) -> str:
    line = f"!{ignore.literal(one.path)}"
    if one.why is not Why.SECRET or one.path not in ignore.parse(line, ignore.OWN_NAME).let_in:
        return ""
    line += "/NAME" if one.folder else ""
    part = "a file of it" if one.folder else "it"
    return f" (to let {part} in, write `{line}` into {ignore.OWN_NAME})"


def _folder(root: Path, src: str) -> Path:
    folder = root / src
    if not folder.is_dir():
        raise UserError(f"src: should be a folder of the repository, found no `{src}`. Correct it.")
    if not folder.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"src: should lie inside the repository, found `{src}`, a link out of it. "
            f"Name the folder itself."
        )
    return folder.resolve()


# ── choosing ────────────────────────────────────────────────────────────────────────────────────


class _Choice:
    """What has been chosen so far."""

    def __init__(self, folder: Path, rules: ignore.Ignore, limits: Limits | None) -> None:
        self.folder = folder
        self._rules = rules
        self._limits = limits
        self._items: list[Item] = []
        self._left_out: list[LeftOut] = []
        self._let_in: list[str] = []
        self._large: list[Item] = []
        self._size_bytes = self._files = 0

    def take(self, found: walk.Found) -> None:
        """Take one thing that the rules keep, or note why not."""
        entry, path = found.entry, found.path
        if entry.name.startswith(walk.WHITEOUT):
            self._leave(path, Why.WHITEOUT, "has a name that would delete another file in a layer")
        elif len(path) > _SURELY_SHORT and len(os.fsencode(path)) > LONGEST_PATH_BYTES:
            raise UserError(
                f"{shown(path[:80])}…: should be a path of at most {LONGEST_PATH_BYTES} bytes, "
                f"found {len(os.fsencode(path))}. Nest the folders less deeply."
            )
        elif found.held and path not in self._rules.let_in:
            self._hold(entry, path)
        elif entry.is_symlink():
            self._link(entry, path)
        elif entry.is_dir(follow_symlinks=False):
            self._items.append(Item(path=path, kind=Kind.FOLDER))
        elif entry.is_file(follow_symlinks=False):
            self._file(entry, path, held=found.held)
        else:
            what = walk.special(entry.stat(follow_symlinks=False).st_mode)
            self._leave(path, Why.SPECIAL, f"is {what}, which an image cannot carry")

    def _hold(self, entry: os.DirEntry[str], path: str) -> None:
        folder = entry.is_dir(follow_symlinks=False)
        if not (folder and self._rules.lets_in_below(path)):
            what = "is where tools keep credentials"
            self._left_out.append(LeftOut(path=path, why=Why.SECRET, what=what, folder=folder))

    def _link(self, entry: os.DirEntry[str], path: str) -> None:
        target = os.readlink(entry.path)
        if walk.stays_inside(self.folder, path, target):
            self._items.append(Item(path=path, kind=Kind.LINK, target=target))
        else:
            self._leave(path, Why.LINK, f"links to `{shown(target)}`, outside the source")

    def _file(self, entry: os.DirEntry[str], path: str, *, held: bool) -> None:
        facts = entry.stat(follow_symlinks=False)
        item = Item(
            path=path,
            kind=Kind.FILE,
            size_bytes=facts.st_size,
            executable=bool(facts.st_mode & stat.S_IXUSR),
            changed_ns=facts.st_mtime_ns,
        )
        named = path in self._rules.let_in
        likeness = None if held else _likeness(entry.path, facts.st_size)
        if likeness and not named:
            what = f"seems to hold {likeness.what}"
            self._leave(path, Why.SECRET, what, line=likeness.line)
            return
        large = self._limits is not None and facts.st_size > self._limits.file_bytes
        if named and (held or likeness or large):
            self._let_in.append(path)
        elif large:
            self._large.append(item)
        self._items.append(item)
        self._files += 1
        self._size_bytes += facts.st_size
        if self._limits is not None and self._files > self._limits.files:
            raise UserError(_too_many(self._items, self._limits.files))

    def _leave(self, path: str, why: Why, what: str, line: int | None = None) -> None:
        self._left_out.append(LeftOut(path=path, why=why, what=what, line=line))

    def done(self) -> Selection:
        """Return what was chosen. Raises: UserError when it is too much."""
        if self._limits is not None:
            self._check(self._limits)
        items = _with_folders(self._items)
        return Selection(
            folder=self.folder,
            items=tuple(sorted(items, key=lambda item: os.fsencode(item.path))),
            left_out=tuple(sorted(self._left_out, key=lambda one: os.fsencode(one.path))),
            let_in=tuple(sorted(self._let_in)),
            size_bytes=self._size_bytes,
        )

    def _check(self, limits: Limits) -> None:
        if self._large:
            raise UserError(_too_large(self._large, limits.file_bytes))
        if self._size_bytes > limits.total_bytes:
            raise UserError(_too_much(self._items, self._size_bytes, limits.total_bytes))


def _likeness(path: str, size_bytes: int) -> likely_secrets.Likeness | None:
    if not 0 < size_bytes <= likely_secrets.LARGEST_TEXT_BYTES:
        return None
    # Half the system calls of open(): with 100,000 files that is a second.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return likely_secrets.in_text(os.read(handle, size_bytes))
    finally:
        os.close(handle)


def _with_folders(items: list[Item]) -> Iterable[Item]:
    """Add the folders of kept files that an ignored folder holds."""
    have = {item.path for item in items if item.kind is Kind.FOLDER}
    missing: set[str] = set()
    for item in items:
        above = item.path.rpartition("/")[0]
        while above and above not in have and above not in missing:
            missing.add(above)
            above = above.rpartition("/")[0]
    return [*items, *(Item(path=path, kind=Kind.FOLDER) for path in missing)]


# ── errors ──────────────────────────────────────────────────────────────────────────────────────


def _too_large(items: list[Item], limit_bytes: int) -> str:
    largest = sorted(items, key=lambda item: (-item.size_bytes, item.path))
    found = ", ".join(f"{shown(one.path)} ({size(one.size_bytes)})" for one in largest[:_SHOWN])
    more = f" and {len(largest) - _SHOWN} more" if len(largest) > _SHOWN else ""
    line = ignore.literal(largest[0].path)
    return (
        f"src: should hold no file above {size(limit_bytes)}, found {found}{more}. Name "
        f"data under `data:`; or write `{line}` into {ignore.OWN_NAME} to leave it out, `!{line}` "
        f"to let it in."
    )


def _too_much(items: list[Item], found_bytes: int, limit_bytes: int) -> str:
    totals: Counter[str] = Counter()
    for item in items:
        totals[item.path.partition("/")[0]] += item.size_bytes
    most = totals.most_common(3)
    named = ", ".join(f"{shown(top)} ({size(total)})" for top, total in most)
    return (
        f"src: should hold at most {size(limit_bytes)}, found {size(found_bytes)}, most in "
        f"{named}. Name data under `data:`, or write what the run does not need into "
        f"{ignore.OWN_NAME}, such as `{ignore.literal(most[0][0])}`."
    )


def _too_many(items: list[Item], limit: int) -> str:
    counts = Counter(item.path.partition("/")[0] for item in items if item.kind is Kind.FILE)
    most = counts.most_common(3)
    named = ", ".join(f"{shown(top)} ({count:,})" for top, count in most)
    return (
        f"src: should hold at most {limit:,} files, found more, most in {named}. Write what the "
        f"run does not need into {ignore.OWN_NAME}, such as `{ignore.literal(most[0][0])}`."
    )


def _unreadable(folder: Path, error: OSError) -> UserError:
    path = os.path.relpath(os.fsdecode(error.filename or folder), folder)
    fault = f"should be readable, found: {error.strerror or error}. Correct its permissions"
    if path == ".":
        return UserError(f"src: {fault}.")
    line = ignore.literal(path)
    return UserError(f"{shown(path)}: {fault}, or write `{line}` into {ignore.OWN_NAME}.")
