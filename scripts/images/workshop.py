"""Make runner images for real: fill a build context, call Docker, try what came out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from action.catalogue import ROOM
from action.engine.base import OFFLINE_SCRIPT, offline_tag
from cynthus.errors import Refused
from runner_images.agent import package
from scripts.images.recipe import Recipe, build_words, labels, push_words, smoke_words, trial_words

BASE_FOLDER = ROOM / "base"
SMOKE = ROOM / "smoke.py"
OFFLINE_PYTHON = "3.11"  # Debian 12's
WHEELS = ROOM.parent / "build" / "wheels"
_DONE = "complete"


class ImageFailed(Refused):
    """An image could not be made, or is not what it should be."""


@dataclass(frozen=True)
class Made:
    """An image that was built and tried."""

    tag: str
    size_bytes: int
    found: dict[str, object]  # what smoke.py saw


@dataclass(frozen=True)
class Docker:
    """A client that can build with BuildKit."""

    client: str

    def show(self, words: Sequence[str]) -> None:
        """Call the client with its output shown; raises ImageFailed."""
        done = subprocess.run(
            [self.client, *words], env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=False
        )
        if done.returncode != 0:
            raise ImageFailed(
                f"docker {words[0]}: should succeed, ended with {done.returncode}. Read above why."
            )

    def ask(self, words: Sequence[str], *, given: bytes = b"") -> str:
        """Call the client quietly and return what it prints; raises ImageFailed with its reason."""
        done = subprocess.run([self.client, *words], input=given, capture_output=True, check=False)
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip() or "no reason given"
            raise ImageFailed(f"docker {words[0]}: should succeed, failed: {reason}")
        return done.stdout.decode("utf-8", "replace").strip()


# ── making ──────────────────────────────────────────────────────────────────────────────────────


def make(docker: Docker, todo: Recipe, tag: str, *, offline: bool) -> Made:
    """Build one image under a tag on this machine, then try it.

    `offline`: the build has no network; wheels are fetched first, a base lacks nothing.
    Safe to repeat: what did not change is in BuildKit's cache.
    """
    wheels = fetch_wheels(todo) if offline else None
    with staged(todo, wheels) as context:
        network = "none" if offline else "default"
        docker.show(build_words(todo, context=str(context), tag=tag, network=network))
    return tried(docker, todo, tag)


def push(docker: Docker, todo: Recipe, tag: str, commit: str) -> str:
    """Build, push with its proofs and return the digest; docker buildx asks the registry."""
    with staged(todo, None) as context, tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        docker.show(push_words(todo, context=str(context), tag=tag, told=str(told), commit=commit))
        return str(json.loads(told.read_bytes())["containerimage.digest"])


def newest_digest(docker: Docker, tag: str) -> str:
    """Ask the registry which image a tag means today, for all architectures."""
    return docker.ask(("buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}"))


def offline_base(docker: Docker) -> str:
    """Return a base that is made of Debian packages, by root on Debian, unless it is here already.

    It is the one that the Action makes where no registry answers. Safe to repeat.
    """
    tag = offline_tag(())
    if docker.ask(("image", "ls", "--quiet", tag)):
        return tag
    environment = {**os.environ, "CYNTHUS_DOCKER": docker.client}
    done = subprocess.run([str(OFFLINE_SCRIPT), tag], env=environment, check=False)
    if done.returncode != 0:
        raise ImageFailed(
            "the offline base: should be made by root on Debian 12, could not be. Name a --base."
        )
    return tag


@contextmanager
def staged(todo: Recipe, wheels: Path | None) -> Iterator[Path]:
    """Yield a build context with exactly the files that the Dockerfile names."""
    with tempfile.TemporaryDirectory(prefix="cynthus-image-") as text:
        folder = Path(text)
        own = ROOM / todo.entry.name
        shutil.copy(own / "Dockerfile", folder)
        if todo.entry.name == "agent":
            package.build(folder / "agent.pyz")
        else:
            shutil.copy(BASE_FOLDER / "settle.sh", folder)
        if todo.lock:
            shutil.copy(own / todo.lock, folder / "requirements.lock")
            _link_wheels(wheels, folder / "wheels")
        yield folder


def _link_wheels(wheels: Path | None, target: Path) -> None:
    target.mkdir()
    for wheel in wheels.glob("*.whl") if wheels else ():
        # Docker sends the content: a link saves one of two copies of some hundred megabytes.
        (target / wheel.name).hardlink_to(wheel)


def fetch_wheels(todo: Recipe) -> Path | None:
    """Return a folder with every wheel of the image's lock, fetched once; None: it has no lock.

    Wheels are verified against the lock's hashes here, and again in the image.
    """
    if todo.lock is None:
        return None
    lock = ROOM / todo.entry.name / todo.lock
    folder = WHEELS / f"{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}-{todo.python}"
    if (folder / _DONE).exists():
        return folder
    words = ("download", "--quiet", "--disable-pip-version-check", "--dest", str(folder))
    exact = ("--require-hashes", "--only-binary", ":all:", "--python-version", todo.python)
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *exact, "--requirement", str(lock)], check=False
    )
    if done.returncode != 0:
        raise ImageFailed(
            f"{lock.name} of {todo.entry.name}: every wheel should be there for Python "
            f"{todo.python}, some are not. Read above which; PIP_FIND_LINKS may name a folder."
        )
    (folder / _DONE).touch()
    return folder


# ── trying ──────────────────────────────────────────────────────────────────────────────────────


def tried(docker: Docker, todo: Recipe, tag: str) -> Made:
    """Run smoke.py inside as the image's own user, its own program, and judge the labels.

    Raises: ImageFailed with every sentence that they have to say.
    """
    answer = docker.ask(smoke_words(todo, tag), given=SMOKE.read_bytes())
    if trial := trial_words(todo, tag):
        docker.ask(trial)
    told = json.loads(docker.ask(("image", "inspect", tag)))[0]
    found = told["Config"]["Labels"] or {}
    for name, value in labels(todo).items():
        if found.get(name) != value:
            raise ImageFailed(
                f"{tag}: the label {name} should be `{value}`, found `{found.get(name)}`. "
                f"Mend runner_images/{todo.entry.name}/Dockerfile."
            )
    return Made(tag=tag, size_bytes=told["Size"], found=json.loads(answer.splitlines()[-1]))
