"""Find out which packages the user's code declares."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from action.workflow import Place
from cynthus import grammar
from cynthus.errors import Fault, UserError
from cynthus.spec import ImageSpec

# In this order, the first that exists: a lock-like list before a project's own wishes.
FOUND_NAMES = ("requirements.txt", "pyproject.toml", "environment.yml", "Pipfile")
LONGEST_FILE_BYTES = 1 << 20  # a lock of a thousand packages with hashes is half of that


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What pip shall install: lines of names, versions and markers, checked."""

    lines: tuple[str, ...] = ()
    places: tuple[Place | None, ...] = ()  # where each line stands; None: in the spec
    source: str | None = None  # the file they come from
    hashed: bool = False

    @property
    def pinned(self) -> bool:
        """Say whether every line names one exact version, so that the result never changes."""
        return all(_EXACT.search(line.partition(";")[0]) for line in self.lines)


_EXACT = re.compile(r"===?\s*[^*,\s]+(?:\s|$|--)")


def find(image: ImageSpec, root: Path, src: str) -> Requirements:
    """Return the declared packages, plus the spec's own.

    A file named by the spec is looked for from the repository's root, then in `src`; without a
    name the first of `FOUND_NAMES` in `src` counts.
    Raises: UserError with the place of everything that is more than a name with versions.
    """
    name = image.requirements or _found_name(root / src)
    declared = Requirements() if name is None else _read_from(root, src, name, image)
    if declared.hashed and image.packages:
        raise UserError(
            f"image/packages: should be empty when `{name}` carries hashes, since pip then wants "
            f"one for every package. Move the packages into that file."
        )
    return Requirements(
        lines=(*declared.lines, *image.packages), source=declared.source, hashed=declared.hashed
    )


def _found_name(folder: Path) -> str | None:
    return next((name for name in FOUND_NAMES if (folder / name).is_file()), None)


def _read_from(root: Path, src: str, name: str, image: ImageSpec) -> Requirements:
    inside = name if src == "." else f"{src}/{name}"
    shown = name if image.requirements and (root / name).is_file() else inside
    return _read(root / shown, shown)


def _read(path: Path, shown: str) -> Requirements:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"image/requirements: should be a readable file, found `{shown}`: "
            f"{error.strerror}. Commit the file, or correct the name."
        ) from None
    if len(raw) > LONGEST_FILE_BYTES:
        raise UserError(f"{shown}: should be at most 1 MiB, found {len(raw)} bytes. Shorten it.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{shown}: should be UTF-8 text, found other bytes. Save it so.") from None
    lines = _LINES.get(path.suffix if path.name != "Pipfile" else "Pipfile", _plain_lines)
    return _checked(lines(text, shown), shown)


_Line = tuple[int, str]


def _checked(lines: Iterable[_Line], shown: str) -> Requirements:
    faults: list[Fault] = []
    good: list[str] = []
    hashed = False
    for number, line in lines:
        wanted, hashes = _without_hashes(line)
        hashed = hashed or bool(hashes)
        if complaint := _complaint(wanted):
            faults.append(Fault(path=shown, line=number, column=1, where="", message=complaint))
        good.append(" ".join((wanted, *hashes)))
    if faults:
        raise UserError("\n".join(str(fault) for fault in faults), tuple(faults))
    return Requirements(lines=tuple(good), source=shown, hashed=hashed)


_HASH = re.compile(r"\s--hash=sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})(?=\s|$)")


def _without_hashes(line: str) -> tuple[str, tuple[str, ...]]:
    """Take off `--hash=…`, the one option that only makes pip stricter."""
    return _HASH.sub("", line).strip(), tuple(found.strip() for found in _HASH.findall(line))


def _complaint(line: str) -> str | None:
    try:
        grammar.package(line)
    except grammar.Wrong as wrong:
        return f"{wrong}, found `{line[:100]}`."
    return None


# ── the four kinds of file ──────────────────────────────────────────────────────────────────────


def _plain_lines(text: str, _shown: str) -> Iterable[_Line]:
    """Yield a requirements file's lines: https://pip.pypa.io/en/stable/reference/requirements-file-format/."""
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


def _toml(text: str, shown: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{shown}: should be TOML, found: {error}. Correct it.") from None


def _pyproject_lines(text: str, shown: str) -> Iterable[_Line]:
    """Yield PEP 621's `project.dependencies`; a file that only configures tools declares none."""
    project = _toml(text, shown).get("project", {})
    found = project.get("dependencies", []) if isinstance(project, dict) else []
    if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
        raise UserError(
            f"{shown}: project/dependencies: should be a list of text, found something else. "
            f"Write it as in PEP 621."
        )
    for line in found:
        yield _line_of(text, line), line


def _pipfile_lines(text: str, shown: str) -> Iterable[_Line]:
    packages = _toml(text, shown).get("packages", {})
    for name, wish in packages.items() if isinstance(packages, dict) else ():
        version = wish.get("version", "*") if isinstance(wish, dict) else wish
        if isinstance(wish, dict) and set(wish) - {"version", "extras", "markers"}:
            version = " @ a place of its own"  # git, path, url: refused with its line below
        extras = (
            f"[{','.join(wish['extras'])}]" if isinstance(wish, dict) and wish.get("extras") else ""
        )
        marker = f"; {wish['markers']}" if isinstance(wish, dict) and wish.get("markers") else ""
        yield _line_of(text, name), f"{name}{extras}{'' if version == '*' else version}{marker}"


def _environment_lines(text: str, shown: str) -> Iterable[_Line]:
    """Yield the `pip:` part of a conda environment; conda's own packages are not pip's."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{shown}: should be YAML, found a fault: {error}. Correct it.") from None
    entries = found.get("dependencies", []) if isinstance(found, dict) else []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield from ((_line_of(text, str(line)), str(line)) for line in entry.get("pip") or ())
        elif re.split(r"[ =<>!]", str(entry))[0] not in {"python", "pip"}:
            place = Place(file=shown, line=_line_of(text, str(entry)))
            message = (
                f"should be below `pip:`, found the conda package `{entry}`. "
                f"Name it there as pip knows it, or write a requirements.txt."
            )
            fault = Fault(path=shown, line=place.line or 1, column=1, where="", message=message)
            raise UserError(str(fault), (fault,))


def _line_of(text: str, wanted: str) -> int:
    """Return the line where a text first stands: good enough to point at."""
    for number, line in enumerate(text.splitlines(), 1):
        if wanted in line:
            return number
    return 1


_LINES = {
    ".toml": _pyproject_lines,
    ".yml": _environment_lines,
    ".yaml": _environment_lines,
    "Pipfile": _pipfile_lines,
}
