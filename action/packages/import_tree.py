"""Know which modules are the repository's own, and which files a command reaches. Pure."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from action.packages.import_scan import Import, Scan

_BINARY = (".so", ".pyd")  # a compiled module that lies in the repository
_ROOTS = ("src", "lib", "python")  # folders that projects put on the path


@dataclass(frozen=True)
class Tree:
    """The files of the source, as far as imports can reach them."""

    modules: frozenset[str] = field(default_factory=frozenset)  # a/b.py is a/b
    packages: frozenset[str] = field(default_factory=frozenset)  # folders with an __init__.py
    folders: frozenset[str] = field(default_factory=frozenset)  # with any module below
    scripts: frozenset[str] = field(default_factory=frozenset)  # folders of files started by name

    def owns(self, name: str, path: str, *, strictly: bool) -> bool:
        """Say whether a file's import means something of the repository.

        `strictly`: a package of the index has that name too. Python then takes a module or package
        of the repository where it finds one, but takes a mere folder only when nothing else has
        the name: https://docs.python.org/3/reference/import.html#namespace-packages
        """
        parts = name.split(".")
        for root in roots_of(path):
            if strictly and root in self.packages and root not in self.scripts:
                continue  # what is in a package is imported by the package's name
            top = posixpath.join(root, parts[0])
            if top in self.modules or top in self.packages:
                return True
            if top in self.folders and (not strictly or self._inside(root, parts)):
                return True
        return not strictly and self._anywhere(parts[0])

    def _inside(self, root: str, parts: Sequence[str]) -> bool:
        inner = posixpath.join(root, *parts[:2])
        return len(parts) > 1 and (inner in self.modules or inner in self.folders)

    def _anywhere(self, name: str) -> bool:
        ending = f"/{name}"
        return any(one.endswith(ending) for one in (*self.modules, *self.folders))


def tree_of(paths: Iterable[str]) -> Tree:
    """Return the tree of the source's files."""
    modules, packages, folders = set(), set(), set()
    for path in paths:
        folder, name = posixpath.split(path)
        if not name.endswith((".py", *_BINARY)):
            continue
        modules.add(posixpath.join(folder, name.partition(".")[0]))
        if name.startswith("__init__."):
            packages.add(folder)
        while folder and folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    return Tree(frozenset(modules), frozenset(packages), frozenset(folders))


def roots_of(path: str) -> Iterator[str]:
    """Yield the folders where a file's imports may begin: its own, those above, `src` and such."""
    folder = posixpath.dirname(path)
    while folder:
        yield folder
        folder = posixpath.dirname(folder)
    yield ""
    yield from _ROOTS


# ── what a command reaches ──────────────────────────────────────────────────────────────────────


def started(run: str | Sequence[str], paths: Iterable[str]) -> tuple[str, ...] | None:
    """Return the files that a command starts; None when it does not say, for example by a script.

    Understood are files by name (`python train.py`, `torchrun … train.py`) and `-m package.module`.
    """
    known = set(paths)
    words = _words(run)
    found: list[str] = []
    for place, word in enumerate(words):
        name = posixpath.normpath(word)
        if word.endswith((".py", ".ipynb")):
            if name not in known:
                return None  # started in another folder, or made while the run goes
            found.append(name)
        elif place and words[place - 1] == "-m":
            found += _module_files(word, known)
    return tuple(found) or None


def _words(run: str | Sequence[str]) -> list[str]:
    if not isinstance(run, str):
        return list(run)
    try:
        return shlex.split(run, comments=True)
    except ValueError:  # an open quote: the shell will say so
        return []


def _module_files(name: str, known: set[str]) -> list[str]:
    path = name.replace(".", "/")
    tried = (f"{path}.py", f"{path}/__main__.py")
    return [
        one for root in ("", *_ROOTS) for t in tried if (one := posixpath.join(root, t)) in known
    ]


def script_folders(run: str | Sequence[str]) -> frozenset[str]:
    """Return the folders that Python puts on the path, since a file in them is started by name."""
    named = (posixpath.normpath(word) for word in _words(run) if word.endswith(".py"))
    return frozenset(posixpath.dirname(name) for name in named)


def reached(first: Iterable[str], scans: Mapping[str, Scan]) -> frozenset[str]:
    """Return the files that are imported, directly or not, by those that a command starts."""
    waiting, seen = list(first), set(first)
    while waiting:
        path = waiting.pop()
        found = scans.get(path, Scan()).imports
        for target in (t for one in found for t in _targets(one, path) if t in scans):
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return frozenset(seen)


def _targets(one: Import, path: str) -> Iterator[str]:
    """Yield the files that an import may load: every package on the way, then the module."""
    parts = [part for part in one.name.split(".") if part]
    roots = [_above(path, one.level)] if one.level else roots_of(path)
    for root in roots:
        if one.level:
            yield posixpath.join(root, "__init__.py")
        for length in range(1, len(parts) + 1):
            inner = posixpath.join(root, *parts[:length])
            yield f"{inner}.py"
            yield f"{inner}/__init__.py"


def _above(path: str, level: int) -> str:
    folder = posixpath.dirname(path)
    for _ in range(level - 1):
        folder = posixpath.dirname(folder)
    return folder
