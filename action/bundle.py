"""Make a process-mode bundle: source and packages as plain folders, where no Docker is."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from action.amounts import Watch
from action.failures import BuildFailed
from action.packages import requirements
from action.programs import stream
from action.resolving import builder, wheelhouse
from action.source import context
from action.workflow import Console
from cynthus.errors import UserError
from cynthus.spec import Spec

_DONE = "complete"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What shall be bundled, and why not an image."""

    spec: Spec
    root: Path
    cache_dir: Path
    bundles_dir: Path
    as_of: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on this machine."""

    folder: Path
    digest: str
    size_bytes: int
    cached: bool  # the packages were there already
    notes: tuple[str, ...]


def make(order: Order, console: Console) -> Bundle:
    """Return a new bundle; only the server and agent of this very machine can run it.

    Raises: UserError, BuildFailed.
    """
    note = f"{order.why}, so the run is a plain process on this machine, without a container"
    console.warning(note)
    _check(order.spec, order.why)
    spec = order.spec
    wanted = requirements.find(spec.image, order.root, spec.src, run=spec.run)
    requirements.check_python(wanted, builder.this_interpreter().version)
    venv, cached = _environment(order, wanted, console)
    order.bundles_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{order.spec.name}-", dir=order.bundles_dir)) / "bundle"
    with console.phase("Bundle: source"):
        source = order.root / order.spec.src
        copied = context.stage(source, folder / "workspace", context.rules_of(source), link=False)
        for sentence in copied.told:
            console.say(sentence)
        described = {"bin": str(venv / "bin"), "workspace": "workspace"}
        (folder / "bundle.json").write_text(json.dumps(described) + "\n")
        console.say(f"{copied.files} files, {copied.size_bytes} bytes of source")
    return Bundle(
        folder=folder.resolve(),
        digest="sha256:" + tree_digest(folder),
        size_bytes=copied.size_bytes,
        cached=cached,
        notes=(note, *wanted.notes),
    )


def _check(spec: Spec, why: str) -> None:
    if spec.image.dockerfile:
        raise UserError(
            f"image/dockerfile: should be absent where there is no Docker, found "
            f"`{spec.image.dockerfile}` while {why}. Start Docker, or use base and requirements."
        )
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = spec.image.python
    if wanted and ".".join(wanted.split(".")[:2]) != own:
        raise UserError(
            f"image/python: should be {own}, this machine's Python, while {why}; found `{wanted}`. "
            f"Start Docker, or change it."
        )


def _environment(
    order: Order, wanted: requirements.Requirements, console: Console
) -> tuple[Path, bool]:
    """Return the virtual environment of these packages, made once for all bundles."""
    date = "" if wanted.pinned else order.as_of
    text = json.dumps([wanted.asked, date, sys.version, sys.prefix])
    venv = order.cache_dir.resolve() / "venvs" / hashlib.sha256(text.encode()).hexdigest()[:32]
    with _alone(venv):
        if (venv / _DONE).exists():
            return venv, True
        shutil.rmtree(venv, ignore_errors=True)  # half of one, from a build that was cut off
        with console.phase("Packages as a virtual environment"):
            watch = Watch()
            _run((sys.executable, "-m", "venv", "--without-pip", str(venv)), console)
            if wanted.lines:
                _install(order, wanted, venv, console)
            (venv / _DONE).touch()
            console.say(f"installed ({watch})")
    return venv, False


@contextmanager
def _alone(venv: Path) -> Iterator[None]:
    """Let one build at a time make a virtual environment, which cannot be moved into place."""
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the kernel, however this process ends
        yield


def _install(order: Order, wanted: requirements.Requirements, venv: Path, console: Console) -> None:
    need = wheelhouse.Need(
        requirements=wanted,
        image=builder.this_interpreter(),
        kept={},
        as_of=order.as_of,
    )
    wheels = wheelhouse.fill(need, order.cache_dir, console)
    pip = (*builder.find_pip(), "--python", str(venv / "bin" / "python"))
    options = ("--no-index", "--no-deps", "--no-cache-dir", "--progress-bar", "off", "--quiet")
    files = sorted(str(path) for path in wheels.folder.glob("*.whl"))
    _run((*pip, "install", *options, *files), console)


def _run(words: tuple[str, ...], console: Console) -> None:
    done = stream(words, console)
    if done.code != 0:
        last = done.out.strip().splitlines()[-1:] or ["no reason was given"]
        raise BuildFailed(f"the packages could not be installed: {last[0]}")


def tree_digest(folder: Path, only: Collection[str] | None = None) -> str:
    """Return a hash of every name, mode and byte below a folder, or of `only` some paths there."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if only is not None and str(path.relative_to(folder)) not in only:
            continue
        total.update(os.fsencode(path.relative_to(folder)) + b"\0")
        if path.is_symlink():
            total.update(b"link " + os.fsencode(os.readlink(path)) + b"\0")
        elif path.is_file():
            with path.open("rb") as file:
                inner = hashlib.file_digest(file, "sha256")
            total.update(f"file {path.stat().st_mode & 0o111:o} ".encode() + inner.digest())
    return total.hexdigest()
