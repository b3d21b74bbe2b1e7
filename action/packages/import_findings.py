"""Decide what the imports of a source come to: packages, questions, notes. Pure."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from action.packages.declared import Declared, Wish, fault
from action.packages.import_names import PACKAGES, package_of
from action.packages.import_scan import Import, Scan
from action.packages.import_tree import Tree, reached, script_folders, started

_DEFAULT_PYTHON = (3, 11)  # the oldest of the catalogue's
_MOST_TOLD = 20  # of a kind, in one note; the rest is counted

# Modules of the standard library that newer Pythons lack, and the version they went with:
# https://docs.python.org/3/whatsnew/3.12.html#removed and .../3.13.html#removed
_GONE = {
    **dict.fromkeys(("asynchat", "asyncore", "distutils", "imp", "smtpd"), (3, 12)),
    **dict.fromkeys(
        (
            *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap"),
            *("msilib", "nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau"),
            *("telnetlib", "uu", "xdrlib"),
        ),
        (3, 13),
    ),
}
# … and those that older ones lack.
_NEW = {"tomllib": (3, 11), "annotationlib": (3, 14), "compression": (3, 14)}
_NEVER_PACKAGES = {"__main__", "_typeshed"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the spec says that bears on imports."""

    run: str | Sequence[str] = ""  # the command
    python: str | None = None  # 3.11
    packages: tuple[str, ...] = ()  # named by the spec: an import of that name is no question
    own_base: bool = False  # a base of the user's own may bring anything: nothing is a question


def python_numbers(python: str | None) -> tuple[int, int]:
    """Return `3.11` as numbers; the oldest of the catalogue where none is named."""
    match = re.match(r"([0-9]+)\.([0-9]+)", python or "")
    return (int(match[1]), int(match[2])) if match else _DEFAULT_PYTHON


Spot = tuple[str, str, int]  # what is told of a place, its path, its line


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the imports of a source come to; paths are relative to the source."""

    packages: tuple[Spot, ...] = ()  # each with the first line that wants it
    unknown: tuple[Spot, ...] = ()  # modules that no package is known for
    elsewhere: tuple[Spot, ...] = ()  # unknown too, in files that the command does not reach
    optional: tuple[str, ...] = ()  # packages that the code does without
    unread: tuple[Spot, ...] = ()  # why a file could not be scanned

    def below(self, src: str) -> Declared:
        """Return the findings as what a file declares, with paths from the repository's root."""

        def at(path: str) -> str:
            return posixpath.normpath(posixpath.join(src, path))

        faults = [fault(at(path), line, self._question(name)) for name, path, line in self.unknown]
        return Declared(
            wishes=tuple(Wish(text=p, path=at(path), line=n) for p, path, n in self.packages),
            faults=tuple(faults),
            notes=tuple(self._notes(at)),
        )

    def _question(self, module: str) -> str:
        top = module.partition(".")[0]
        if top in _GONE and package_of(module) is None:
            major, minor = _GONE[top]
            return (
                f"should import what the image has, found `import {module}`, which left Python's "
                f"standard library with {major}.{minor}. Set `image.python` of the spec lower, or "
                f"use what replaces it."
            )
        known = [package for package, _, _ in self.packages]
        asked = [_index_name(name) for name, _, _ in self.unknown]
        lines = " ".join(f"`{line}`" for line in (*known, *asked))
        return (
            f"should import a package that is known, found `import {module}`, and Cynthus does not "
            f"guess. Write a requirements.txt with the lines {lines}, if `{_index_name(module)}` "
            f"is what the index calls it."
        )

    def _notes(self, at: Callable[[str], str]) -> Iterator[str]:
        if self.packages:
            told = [f"{package} ({at(path)}:{line})" for package, path, line in self.packages]
            yield (
                f"the packages are inferred from the imports: {_listed(told)}. "
                f"A requirements.txt would say which versions"
            )
        if self.optional:
            yield f"not installed, since the code does without them: {_listed(self.optional)}"
        if self.elsewhere:
            told = [f"{module} ({at(path)}:{line})" for module, path, line in self.elsewhere]
            yield f"not installed, since nothing is known for these imports: {_listed(told)}"
        if self.unread:
            told = [f"{at(path)}:{line} ({why})" for why, path, line in self.unread]
            yield f"not scanned for imports: {_listed(told)}"


def _index_name(module: str) -> str:
    return module.replace(".", "-")


def _listed(told: Sequence[str]) -> str:
    more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return ", ".join(told[:_MOST_TOLD]) + more


def judge(scans: Mapping[str, Scan], tree: Tree, wanted: Wanted) -> Findings:
    """Say what every import of a source comes to. Equal files, equal findings."""
    first = started(wanted.run, scans)
    strict = frozenset(scans) if first is None else reached(first, scans)
    judging = _Judging(replace(tree, scripts=script_folders(wanted.run)), wanted)
    # Files that the command reaches come first, so that a package stands at a line that matters.
    for path in sorted(scans, key=lambda path: (path not in strict, path)):
        for one in scans[path].imports:
            judging.take(one, path, strict=path in strict and not wanted.own_base)
    return Findings(
        packages=tuple((name, *spot) for name, spot in sorted(judging.packages.items())),
        unknown=_by_place(judging.unknown),
        elsewhere=_by_place(
            {name: spot for name, spot in judging.elsewhere.items() if name not in judging.unknown}
        ),
        optional=tuple(sorted(judging.optional - set(judging.packages))),
        unread=tuple(
            (found.fault, path, found.fault_line)
            for path, found in sorted(scans.items())
            if found.fault
        ),
    )


def _by_place(found: Mapping[str, tuple[str, int]]) -> tuple[Spot, ...]:
    return tuple((name, *spot) for name, spot in sorted(found.items(), key=lambda one: one[1]))


class _Judging:
    """Gather import after import."""

    def __init__(self, tree: Tree, wanted: Wanted) -> None:
        self._tree = tree
        self._python = python_numbers(wanted.python)
        self._named = {_compared(re.split(r"[^A-Za-z0-9._-]", p)[0]) for p in wanted.packages}
        self.packages: dict[str, tuple[str, int]] = {}
        self.unknown: dict[str, tuple[str, int]] = {}
        self.elsewhere: dict[str, tuple[str, int]] = {}
        self.optional: set[str] = set()

    def take(self, one: Import, path: str, *, strict: bool) -> None:
        """Judge one import."""
        if one.level or self._is_there(one.name, path):
            return
        package = package_of(one.name)
        spared = one.optional or any(self._is_there(name, path) for name in one.instead_of)
        if spared:
            self.optional |= {package} if package else set()
        elif package is None:
            asked = self.unknown if strict else self.elsewhere
            asked.setdefault(_question_name(one.name), (path, one.line))
        elif _compared(package) not in self._named:
            self.packages.setdefault(package, (path, one.line))

    def _is_there(self, name: str, path: str) -> bool:
        """Say whether Python or the repository itself has a module."""
        top = name.partition(".")[0]
        if in_standard_library(top, self._python) or top in _NEVER_PACKAGES:
            return True
        if self._tree.owns(name, path, strictly=package_of(name) is not None):
            return True
        return package_of(name) is None and _compared(top) in self._named


def _compared(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _question_name(name: str) -> str:
    """Name a shared namespace whole, anything else by its first part."""
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[0] in _SHARED else parts[0]


_SHARED = frozenset(name.partition(".")[0] for name in PACKAGES if "." in name)


def in_standard_library(top: str, python: tuple[int, int]) -> bool:
    """Say whether a Python brings a module: https://docs.python.org/3/library/sys.html#sys.stdlib_module_names."""
    if top in _GONE:
        return python < _GONE[top]
    if top in _NEW:
        return python >= _NEW[top]
    return top in sys.stdlib_module_names
