"""Fill a folder with the wheels an image needs, so that the build itself needs no network."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from action.failures import BuildFailed
from action.packages.requirements import Requirements
from action.plan import Interpreter, canonical, wheel_words
from action.programs import stream
from action.resolving import explanation, indexes, stub
from action.resolving.builder import find_pip, this_interpreter
from action.workflow import Console, Place
from cynthus.errors import UserError

_DONE = "complete.json"
_ANY = "py3-none-any"  # pip takes a stub for its build tag, whatever its platform


@dataclass(frozen=True, kw_only=True)
class Wheels:
    """A filled wheelhouse."""

    folder: Path
    count: int
    size_bytes: int
    cached: bool
    sha256: Mapping[str, str] = field(default_factory=dict)  # of each wheel, by its package's name


@dataclass(frozen=True, kw_only=True)
class Need:
    """What the wheels are for."""

    requirements: Requirements
    image: Interpreter
    kept: Mapping[str, str]  # packages of the base that stay as they are
    as_of: str  # a date; unpinned packages are looked up once a day
    lock: str = ""  # with hashes: exactly this is fetched, and nothing is chosen any more
    sources: bool = True  # packages that come as source may be built here, which runs their code


def fill(need: Need, cache: Path, console: Console) -> Wheels:
    """Return a folder with every wheel, from the cache when it was filled before.

    A folder appears in the cache whole or not at all, so a build that was cut off leaves no trap.
    """
    builder = this_interpreter()
    folder = cache / "wheels" / _key(need, builder)
    if (folder / _DONE).is_file():
        return _counted(folder, cached=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".filling-", dir=folder.parent))
    try:
        _fill(need, builder, work, console)
        _publish(work / "wheels", folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _counted(folder, cached=False)


def _publish(filled: Path, folder: Path) -> None:
    hashes = {path.name: _sha256(path) for path in sorted(filled.glob("*.whl"))}
    (filled / _DONE).write_text(json.dumps(hashes))
    try:
        filled.rename(folder)
    except OSError:
        if not (folder / _DONE).is_file():  # else: another build was quicker, with the same wheels
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counted(folder: Path, *, cached: bool) -> Wheels:
    hashes: dict[str, str] = json.loads((folder / _DONE).read_bytes())
    return Wheels(
        folder=folder,
        count=len(hashes),
        size_bytes=sum((folder / name).stat().st_size for name in hashes),
        cached=cached,
        sha256={canonical(name.partition("-")[0]): found for name, found in hashes.items()},
    )


def _key(need: Need, builder: Interpreter) -> str:
    parts = [
        need.requirements.asked,
        need.lock,
        repr(need.image),
        repr(builder),
        sorted(need.kept.items()),
        "" if need.requirements.pinned or need.lock else need.as_of,
        need.sources,
        2,  # the form of `complete.json`
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _fill(need: Need, builder: Interpreter, work: Path, console: Console) -> None:
    wheels, stubs = work / "wheels", work / "stubs"
    wheels.mkdir()
    stubs.mkdir()
    kept = {} if need.lock else need.kept  # a lock leaves out what the base has
    stubbed = {stub.write(stubs, name, version, _ANY) for name, version in kept.items()}
    wishes = _wishes(need, work, stubs)
    words = wheel_words(
        builder, need.image, target=str(wheels), wishes=wishes, sources=need.sources
    )
    done = stream((*find_pip(), *words), console, environ=indexes.for_pip(os.environ))
    if done.code != 0:
        raise _failure(done.out, need)
    for name in stubbed:
        (wheels / name).unlink(missing_ok=True)


def _wishes(need: Need, work: Path, stubs: Path) -> tuple[str, ...]:
    listed = work / "requirements.txt"
    if need.lock:
        listed.write_text(need.lock, "utf-8")
        return ("--require-hashes", "--no-deps", "--requirement", str(listed))
    listed.write_text("".join(f"{line}\n" for line in need.requirements.lines))
    words = ["--requirement", str(listed)]
    if need.requirements.hashed:
        return tuple(words)
    limits = [f"{name}=={version}" for name, version in sorted(need.kept.items())]
    limits += need.requirements.constraints
    if limits:
        constraints = work / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in limits))
        words += ["--constraint", str(constraints), "--find-links", str(stubs)]
    return tuple(words)


# ── what pip says ───────────────────────────────────────────────────────────────────────────────

_NO_MATCH = re.compile(r"No matching distribution found for (\S[^\n]*)")
# pip lists each file below its "DO NOT MATCH THE HASHES", with what was expected and what it got.
_OTHER_HASH = re.compile(
    r"^\s+(?P<wish>[A-Za-z0-9][^\s;]*==\S+) from [^\n]*\n\s+Expected (?P<kind>sha\d+) [^\n]*\n"
    r"(?:\s+Expected [^\n]*\n)*\s+Got\s+(?P<got>[0-9a-f]+)",
    re.MULTILINE,
)


def _failure(text: str, need: Need) -> BuildFailed | UserError:
    source = need.requirements.source
    if match := _OTHER_HASH.search(text):
        message = (
            f"should have the hash of what the index gives, found `{match['wish']}` there with "
            f"{match['kind']}:{match['got']}. If you trust that, write the file anew with `uv pip "
            f"compile --generate-hashes`."
        )
        return explanation.at_lines(
            message, (explanation.name_of(match["wish"]),), need.requirements
        )
    errors = [line.partition("ERROR: ")[2] for line in text.splitlines() if "ERROR: " in line]
    if match := _NO_MATCH.search(text):
        name = match[1].strip()
        line = _line_with(need.requirements, name)
        fault = f"no package fits `{name}` for Python {need.image.version} on {need.image.machine}"
        remedy = "Check its name and versions."
        place = Place(file=source) if source else None
        return BuildFailed(f"{source or 'image/packages'}: {line or fault}. {remedy}", place)
    reason = errors[-1] if errors else "pip failed"
    place = Place(file=source) if source else None
    return BuildFailed(f"{source or 'image/packages'}: the packages cannot be had: {reason}", place)


def _line_with(requirements: Requirements, name: str) -> str | None:
    wanted = canonical(re.split(r"[^A-Za-z0-9._-]", name)[0])
    for line in requirements.lines:
        if canonical(re.split(r"[^A-Za-z0-9._-]", line)[0]) == wanted:
            return f"no package fits `{line}`"
    return None
