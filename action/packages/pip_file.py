"""Read a requirements file, and the files of the repository that it names.

The format: https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from action.packages import declared
from action.packages.declared import Declared, Wish, refused

_MOST_FILES = 50  # nobody's requirements are in more; a loop of names ends

_OPTION = re.compile(r"(--?[A-Za-z][A-Za-z-]*)(?:[=\s]\s*(.*))?")
_SHORT = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url"}
_SHORT["-f"] = "--find-links"
_INDEX_OPTIONS = (
    *("--index-url", "--extra-index-url", "--find-links", "--no-index", "--trusted-host"),
    *("--pypi-url",),
)
_HASH = re.compile(r"\s--hash[=\s]\s*(sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128}))")
_PLACE = re.compile(r"^(?:\.{1,2}(?:[/\\\[]|$)|/|~|[A-Za-z]:\\|.*\.(?:whl|tar\.gz|zip)$)")


@dataclass(frozen=True, kw_only=True)
class _Reading:
    root: Path  # the repository: nothing outside it is read
    limits: bool = False  # below `-c`: versions only
    above: tuple[str, ...] = ()  # the files that led here


def read(root: Path, shown: str) -> Declared:
    """Return what a requirements file declares; `shown` is its path from the repository's root."""
    found = _file(_Reading(root=root), shown)
    return found + _unhashed(found)


def _file(reading: _Reading, shown: str) -> Declared:
    text = declared.read(reading.root, shown)
    if isinstance(text, Declared):
        return text
    inside = _Reading(root=reading.root, limits=reading.limits, above=(*reading.above, shown))
    return declared.together(_line(inside, shown, n, line) for n, line in lines(text))


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each requirement with its first line: comments go, a backslash joins lines."""
    start, gathered = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s+)#.*$", "", raw)
        start = start if gathered else number
        if line.endswith("\\"):
            gathered += line[:-1] + " "
            continue
        gathered, whole = "", (gathered + line).strip()
        if whole:
            yield start, whole
    if gathered.strip():
        yield start, gathered.strip()


def _line(reading: _Reading, shown: str, number: int, line: str) -> Declared:
    if line.startswith("-"):
        return _option(reading, shown, number, line)
    hashes = tuple(f"--hash={digest}" for digest in _HASH.findall(line))
    text = _HASH.sub("", line).strip()
    if complaint := _place_complaint(text):
        return refused(shown, number, complaint)
    found = declared.checked(Wish(text=text, path=shown, line=number, hashes=hashes))
    if reading.limits:
        return Declared(constraints=found.wishes, faults=found.faults)
    return found


def _place_complaint(text: str) -> str | None:
    """Say what is wrong with a requirement that names a place instead of a package."""
    found = f"found `{declared.quoted(text)}`"
    if "git+" in text or "hg+" in text or "svn+" in text or "bzr+" in text:
        return (
            f"should be a package by name, {found}, a repository. Take a release from the index, "
            f"or copy that code into this repository."
        )
    if "://" in text or re.search(r"\s@\s", text):
        return (
            f"should be a package by name, {found}, an address. Name the package and its version."
        )
    if _PLACE.match(text):
        return (
            f"should be a package by name, {found}, a place. The repository itself is in the image "
            f"at /workspace; name what it needs, and take this line out."
        )
    return None


def _option(reading: _Reading, shown: str, number: int, line: str) -> Declared:
    match = _OPTION.fullmatch(_spaced(line))
    name = _SHORT.get(match[1], match[1]) if match else line.split(maxsplit=1)[0]
    value = (match[2] or "").strip().strip("\"'") if match else ""
    if name in {"--requirement", "--constraint"}:
        return _other(reading, shown, number, name, value)
    if name == "--require-hashes":  # it only makes pip stricter, and we are so anyway
        return Declared()
    if name in _INDEX_OPTIONS:
        return refused(
            shown,
            number,
            f"should be a package, found `{name}`. Name the index in the step's `env` instead "
            f"(UV_INDEX or PIP_EXTRA_INDEX_URL), where its credentials stay out of the repository.",
        )
    if name == "--editable":
        return refused(
            shown,
            number,
            f"should be a package by name, found `{line[:100]}`. The repository itself is in the "
            f"image at /workspace; name what it needs, and take this line out.",
        )
    return refused(
        shown, number, f"should be a package, found the option `{name[:60]}`. Take this line out."
    )


def _spaced(line: str) -> str:
    """Write `-rother.txt` as `-r other.txt`."""
    return f"{line[:2]} {line[2:]}" if re.match(r"-[rcefi][^\s=-]", line) else line


def _other(reading: _Reading, shown: str, number: int, name: str, value: str) -> Declared:
    """Read the file that `-r` or `-c` names, relative to the file it stands in."""
    if not value or "://" in value or not value.isprintable():
        return refused(
            shown,
            number,
            f"should name a file of the repository, found `{declared.quoted(value)}`. Copy it.",
        )
    target = posixpath.normpath(posixpath.join(posixpath.dirname(shown), value))
    if not _inside(reading.root, target):
        return refused(
            shown,
            number,
            f"should name a file inside the repository, found `{value[:100]}`. Copy it there.",
        )
    if target in reading.above:
        return refused(
            shown, number, f"should not name `{target}`, which led to this file. Take it out."
        )
    # `Path.is_file` raises for a name that is too long.
    if not os.path.isfile(reading.root / target):
        return refused(
            shown,
            number,
            f"should name a file that exists, found no `{target[:100]}`. "
            f"Commit it, or correct the name.",
        )
    if len(reading.above) >= _MOST_FILES:
        return refused(shown, number, f"should be at most {_MOST_FILES} files deep. Join some.")
    below = reading.limits or name == "--constraint"
    return _file(_Reading(root=reading.root, limits=below, above=reading.above), target)


def _inside(root: Path, target: str) -> bool:
    """Say whether a path stays in the repository, links followed."""
    if posixpath.isabs(target) or target.split("/", maxsplit=1)[0] == "..":
        return False
    try:
        return (root / target).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a name that is too long; links that lead in a circle
        return False


def _unhashed(found: Declared) -> Declared:
    """Return a fault for each line without a hash where others have one, as pip does."""
    if not any(wish.hashes for wish in found.wishes):
        return Declared()
    return declared.together(
        refused(
            wish.path,
            wish.line,
            f"should be one exact version with a hash, as the other lines have, found "
            f"`{wish.text}`. Write the file with `uv pip compile --generate-hashes`.",
        )
        for wish in found.wishes
        if not wish.hashes or not exact(wish.text)
    )


_EXACT = re.compile(r"===?\s*[^*,\s]+\s*$")


def exact(text: str) -> bool:
    """Say whether a requirement names one version, so that it never means another."""
    return _EXACT.search(text.partition(";")[0]) is not None
