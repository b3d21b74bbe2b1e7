"""Say how a runner image is made: from the catalogue to Docker's words. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from action.catalogue import Entry
from cynthus.errors import UserError

RUNNERS = {"amd64": "ubuntu-24.04", "arm64": "ubuntu-24.04-arm"}  # GitHub's machines: no emulation

WRITABLE = {"agent": ("/state",)}  # it runs no workload of its own
# Words that make a program of ours say something and end well.
TRIAL = {"agent": ("run", "--help")}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One image to make."""

    entry: Entry
    python: str
    base: str
    cpu: bool = False  # without CUDA: the catalogue's own facts about CUDA do not hold then

    @property
    def lock(self) -> str | None:
        """Return the lock file with its packages, in the folder of its Dockerfile."""
        if not self.entry.frameworks:
            return None
        return "requirements.cpu.lock" if self.cpu else "requirements.lock"

    @property
    def cuda(self) -> str | None:
        """Return the version of the CUDA libraries that will be inside."""
        return None if self.cpu else self.entry.cuda


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody asks for, as far as they say it."""

    name: str
    python: str | None = None
    base: str | None = None
    cpu: bool = False


def recipe(wish: Wish, entries: Mapping[str, Entry]) -> Recipe:
    """Return how to make what is wished.

    Raises: UserError for a name or a Python that the catalogue does not have.
    """
    entry = entries.get(wish.name)
    if entry is None:
        raise UserError(
            f"name: should be one of {', '.join(entries)}, found `{wish.name}`. "
            f"Write for example `python -m scripts.images build python`."
        )
    python = wish.python or entry.python[0]
    base = wish.base or entry.bases.get(python)
    if base is None:
        raise UserError(
            f"--python: should be {' or '.join(entry.bases)} for `{entry.name}`, found `{python}`. "
            f"Change it, or name an image that has it with --base."
        )
    return Recipe(entry=entry, python=python, base=base, cpu=wish.cpu)


def arguments(todo: Recipe, *, offline: bool) -> Mapping[str, str]:
    """Return the build arguments; `offline`: every wheel lies in the context."""
    found = {"BASE": todo.base, "PYTHON": todo.python}
    if todo.entry.cuda:
        driver = None if todo.cpu else todo.entry.minimum_driver
        found |= {"CUDA": todo.cuda or "", "DRIVER": driver or ""}
    return {**found, "PIP_NO_INDEX": "1"} if offline and todo.lock else found


def build_words(todo: Recipe, *, context: str, tag: str, network: str) -> tuple[str, ...]:
    """Return the words after `docker` that build on this machine."""
    offline = network == "none"
    named = _argument_words(arguments(todo, offline=offline))
    words = ("build", "--progress", "plain", "--network", network, *named)
    return (*words, "--tag", tag, context)


def push_words(todo: Recipe, *, context: str, tag: str, told: str, commit: str) -> tuple[str, ...]:
    """Return the words after `docker` that build, push and attest: SBOM and provenance.

    What was pushed is written to the file `told`:
    https://docs.docker.com/reference/cli/docker/buildx/build/#metadata-file
    """
    named = _argument_words(arguments(todo, offline=False))
    labels = ("--label", f"org.opencontainers.image.revision={commit}")
    proofs = ("--provenance", "mode=max", "--sbom", "true", "--metadata-file", told)
    words = ("buildx", "build", "--progress", "plain", "--push", *proofs, *labels, *named)
    return (*words, "--tag", tag, context)


def _argument_words(found: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for key, value in found.items() for word in ("--build-arg", f"{key}={value}"))


def promises(todo: Recipe) -> Mapping[str, Any]:
    """Return what runner_images/smoke.py shall find."""
    return {
        "python": todo.python,
        "frameworks": dict(todo.entry.frameworks),
        "cuda": todo.cuda,
        "writable": list(WRITABLE.get(todo.entry.name, ("/workspace", "/home/workload"))),
    }


def labels(todo: Recipe) -> Mapping[str, str]:
    """Return the labels that say what is inside; an empty one means: none."""
    frameworks = ",".join(f"{name}={version}" for name, version in todo.entry.frameworks.items())
    driver = "" if todo.cpu else todo.entry.minimum_driver or ""
    found = {"cuda": todo.cuda or "", "driver": driver} if todo.entry.cuda else {}
    found |= {"frameworks": frameworks} if frameworks else {}
    found |= {"runner-image": todo.entry.name, "python": todo.python}
    return {f"dev.cynthus.{key}": value for key, value in found.items()}


def smoke_words(todo: Recipe, tag: str) -> tuple[str, ...]:
    """Return the words after `docker` that try an image; smoke.py is their standard input.

    One thread: with two, PyTorch and TensorFlow spin against each other on a busy machine.
    """
    limits = ("--network", "none", "--cap-drop", "ALL", "--env", "OMP_NUM_THREADS=1")
    wanted = json.dumps(promises(todo))
    words = ("run", "--rm", "--interactive", *limits, "--entrypoint", "python3", tag)
    return (*words, "-I", "-", wanted)


def trial_words(todo: Recipe, tag: str) -> tuple[str, ...] | None:
    """Return the words after `docker` that start the image's own program, if it has one."""
    trial = TRIAL.get(todo.entry.name)
    return ("run", "--rm", "--network", "none", "--cap-drop", "ALL", tag, *trial) if trial else None


def matrix(entries: Mapping[str, Entry]) -> list[dict[str, str]]:
    """Return every image that is published, one for each Python and architecture."""
    return [
        {"name": entry.name, "python": python, "arch": arch, "runner": RUNNERS[arch]}
        for entry in entries.values()
        for python in entry.python
        for arch in entry.architectures
    ]


def joins(entries: Mapping[str, Entry]) -> list[dict[str, str]]:
    """Return every image that is published, one for each Python, with all its architectures."""
    return [
        {"name": entry.name, "python": python, "architectures": " ".join(entry.architectures)}
        for entry in entries.values()
        for python in entry.python
    ]


def freshened(text: str, newest: Mapping[str, str]) -> str:
    """Return a file's text with the newest digest for every tag; what has none stays. Pure."""
    for tag, digest in newest.items():
        text = re.sub(f"{re.escape(tag)}@sha256:[0-9a-f]{{64}}", f"{tag}@{digest}", text)
    return text


def record(text: str, name: str, python: str, reference: str) -> str:
    """Return the catalogue's text with the published image of one Python; comments stay.

    Safe to repeat. Raises: UserError for an entry without a line `published: {…}`.
    """
    lines = text.splitlines(keepends=True)
    for number in range(_line_of(lines, f"  {name}:", name) + 1, len(lines)):
        line = lines[number]
        if line.startswith("    published: {"):
            lines[number] = _published_line(line, python, reference)
            return "".join(lines)
        if not line.startswith("    "):
            break
    raise UserError(
        f"catalogue.yaml: should have a line `published: {{}}` for `{name}`, found none. Add it."
    )


def _line_of(lines: list[str], wanted: str, name: str) -> int:
    for number, line in enumerate(lines):
        if line.rstrip() == wanted:
            return number
    raise UserError(f"catalogue.yaml: should have an entry `{name}`, found none. Add it.")


def _published_line(line: str, python: str, reference: str) -> str:
    inside = line.strip().removeprefix("published: {").removesuffix("}")
    pairs = (item.strip().partition(": ") for item in inside.split(",") if item.strip())
    found = {key.strip('"'): value for key, _, value in pairs} | {python: reference}
    text = ", ".join(f'"{key}": {found[key]}' for key in sorted(found))
    return f"    published: {{{text}}}\n"
