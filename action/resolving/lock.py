"""Lock packages: every version and every hash, for one Python on one platform."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from action.failures import BuildFailed
from action.packages import markers
from action.packages.requirements import Requirements
from action.packages.versions import parse
from action.plan import canonical
from action.programs import Answer, capture
from action.resolving import explanation, indexes, resolver, stub
from action.resolving.explanation import Target
from action.workflow import Console
from cynthus.errors import UserError
from cynthus.wire_image import LOCK_LIMIT

_LIMIT_S = 900  # seconds as a rule; source packages are built for their wishes, one by one
# The platforms uv knows by name, by the minor number of glibc 2:
# https://docs.astral.sh/uv/reference/cli/#uv-pip-compile--python-platform
_GLIBC_MINORS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_MACHINES = ("x86_64", "aarch64")


@dataclass(frozen=True, kw_only=True)
class Need:
    """What shall be locked, and for which image."""

    requirements: Requirements
    python: str  # 3.11
    machine: str  # x86_64
    libc: tuple[int, int] | None  # glibc's version; None: musl
    kept: Mapping[str, str]  # packages of the base that stay as they are
    as_of: str  # a date; open versions are looked up once a day
    sources: bool = False  # what is built on this machine also runs in the image


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Everything to install on top of the base; equal needs on a day have an equal text."""

    text: str = ""  # requirements with hashes, as pip and uv read them; names no index
    pins: tuple[tuple[str, str], ...] = ()  # name (as indexes compare it) and version
    source: str | None = None  # the file that the wishes come from


def lock(need: Need, cache: Path, console: Console) -> Lock:
    """Return the lock, from the cache when the same was asked before.

    Requirements that carry hashes are a lock already and are used as they are. The packages of the
    base take part in the resolution and are left out of the result.
    Safe to repeat. Raises: UserError at the lines that do not resolve; BuildFailed when the index
    or uv cannot be had.
    """
    wanted = need.requirements
    if not wanted.lines:
        return Lock(source=wanted.source)
    if wanted.hashed:
        return given(_for_image(need), wanted.source)
    kept = cache / "locks" / f"{_key(need)}.txt"
    if kept.is_file():
        return given(kept.read_text("utf-8"), wanted.source)
    text = _resolved(need, cache, console)
    if len(text) > LOCK_LIMIT:
        raise UserError(
            f"{wanted.source or 'image/packages'}: should need a lock of at most 1 MiB, found "
            f"{len(text)} characters. Take out what the run does not need."
        )
    _keep(kept, text)
    return given(text, wanted.source)


def _for_image(need: Need) -> str:
    """Return the hashed lines that are for this image and bring what its base does not have.

    Such a file may serve many platforms; its markers say which line is for which.
    """
    values = markers.environment(need.python, need.machine)
    out = []
    for line in need.requirements.lines:
        wish, space, hashes = line.partition(" --hash=")
        name, _, marker = wish.partition(";")
        if markers.holds(marker, values) and explanation.name_of(name) not in need.kept:
            out.append(f"{name.strip()}{space}{hashes}\n")
    return "".join(out)


def given(text: str, source: str | None) -> Lock:
    """Return a lock that was made before, with its pins."""
    pins = tuple((canonical(name), version) for name, version in _PIN.findall(text))
    return Lock(text=text, pins=pins, source=source)


_PIN = re.compile(
    r"^([A-Za-z0-9][A-Za-z0-9._-]*)[ \t]*(?:\[[^\]]*\])?[ \t]*===?[ \t]*([^\s;\\]+)", re.MULTILINE
)


def platform(machine: str, libc: tuple[int, int] | None) -> str:
    """Return uv's word for an image's platform: the newest it knows that the image still runs."""
    if machine not in _MACHINES:
        raise UserError(
            f"image/base: should be for {' or '.join(_MACHINES)}, found one for {machine}. "
            f"Take another base."
        )
    if libc is None:
        return f"{machine}-unknown-linux-musl"
    fitting = [minor for minor in _GLIBC_MINORS if (2, minor) <= libc]
    if not fitting:
        raise UserError(
            f"image/base: should have glibc 2.{_GLIBC_MINORS[0]} or newer, found "
            f"{libc[0]}.{libc[1]}. No wheels are made for it; take a newer base."
        )
    return f"{machine}-manylinux_2_{fitting[-1]}"


def _key(need: Need) -> str:
    parts = [
        need.requirements.asked,
        (need.python, need.machine, need.libc, need.sources),
        sorted(need.kept.items()),
        need.as_of,
        indexes.addresses(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")  # another build may write the same at this moment
    part.write_text(text, "utf-8")
    part.rename(path)


def _resolved(need: Need, cache: Path, console: Console) -> str:
    uv = resolver.words(cache, console)
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".locking-", dir=cache))
    try:
        answer = _compile(need, uv, work)
        if answer.code != 0:
            raise _failure(answer, need, console)
        return without((work / "lock.txt").read_text("utf-8"), need.kept)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _compile(need: Need, uv: tuple[str, ...], work: Path) -> Answer:
    """Run uv in a folder of our own.

    It looks for a `uv.toml` or pyproject.toml there and in every folder above, the user's
    repository perhaps, and stops at the first: https://docs.astral.sh/uv/concepts/configuration-files/
    """
    (work / "uv.toml").touch()
    found = indexes.find()
    kept = {name: version for name, version in need.kept.items() if parse(version)}
    _write_stubs(work / "stubs", kept, need)
    wishes = "".join(f"{line}\n" for line in need.requirements.lines)
    (work / "wishes.in").write_text(f"--find-links ./stubs\n{wishes}", "utf-8")
    limits = (*(f"{n}=={v}" for n, v in sorted(kept.items())), *need.requirements.constraints)
    (work / "limits.txt").write_text("".join(f"{line}\n" for line in limits), "utf-8")
    # Named, so that uv does not look at every Python of the machine.
    words = (*uv, *compile_words(need), "--python", sys.executable, *found.options)
    return capture(words, timeout_s=_LIMIT_S, folder=work, environ=found.environ)


def compile_words(need: Need) -> tuple[str, ...]:
    """Return the words after `uv`; the output names no index and no path of this machine."""
    return (
        *(
            "pip",
            "compile",
            "wishes.in",
            "--constraints",
            "limits.txt",
            "--output-file",
            "lock.txt",
        ),
        *("--python-version", need.python),
        *("--python-platform", platform(need.machine, need.libc)),
        *("--generate-hashes", "--no-header", "--no-annotate"),
        *("--no-emit-index-url", "--no-emit-find-links"),
        *("--no-python-downloads", "--no-progress", "--color", "never", "--quiet"),
        *(() if need.sources else ("--only-binary", ":all:")),
    )


def _write_stubs(folder: Path, kept: Mapping[str, str], need: Need) -> None:
    folder.mkdir()
    python = "cp" + "".join(need.python.split(".")[:2])
    abi = platform(need.machine, need.libc).partition("-")[2]
    if need.libc is None:
        abi = "musllinux_1_1"
    for name, version in kept.items():
        stub.write(folder, name, version, f"{python}-{python}-{abi}_{need.machine}")


def without(text: str, kept: Mapping[str, str]) -> str:
    """Return a lock without the packages of the base: they are there, and a stub's hash is not."""
    names = {canonical(name) for name in kept}
    out: list[str] = []
    keeping = True
    for line in text.splitlines(keepends=True):
        if match := _PIN.match(line):
            keeping = canonical(match[1]) not in names
        if keeping:
            out.append(line)
    return "".join(out)


def _failure(answer: Answer, need: Need, console: Console) -> UserError | BuildFailed:
    for line in answer.err.splitlines():
        console.quote(re.sub(r"://[^/\s@]*@", "://", line))
    target = Target(
        requirements=need.requirements, python=need.python, machine=need.machine, kept=need.kept
    )
    return explanation.failure(answer.err, target)
