"""Find the Docker client that can build, and speak to its engine."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from action.inputs import Login
from action.programs import Answer, capture, stream
from action.workflow import Console
from cynthus.errors import UserError

_BUILDX_NEEDED_SINCE = 23  # https://docs.docker.com/engine/release-notes/23.0/#2300
# `default` is the builder inside the engine: it sees local images, where a builder in a container
# (docker/setup-buildx-action) does not. Attestations would turn every image into an index.
_BUILD_ENVIRONMENT = (
    "DOCKER_BUILDKIT=1",
    "BUILDX_BUILDER=default",
    "BUILDX_NO_DEFAULT_ATTESTATIONS=1",
)
_BORING = re.compile(r"|#\d+ sha256:[0-9a-f]{64}|#\d+ (?:DONE 0\.0s|transferring .*)")
_HUB_KEY = "https://index.docker.io/v1/"  # how Docker's own configuration names Docker Hub


@dataclass(frozen=True)
class Engine:
    """A Docker client that builds with BuildKit, and the engine that answers it."""

    client: str
    config: Path | None = None  # a configuration folder of our own, with the login

    def words(self, *words: str) -> tuple[str, ...]:
        """Return the command line of one call."""
        config = ("--config", str(self.config)) if self.config else ()
        return (self.client, *config, *words)

    def ask(self, *words: str, timeout_s: float = 60) -> Answer:
        """Call quietly."""
        return capture(self.words(*words), timeout_s=timeout_s)

    def show(self, console: Console, *words: str) -> Answer:
        """Call with the output shown."""
        return stream(self.words(*words), console)

    def build(self, console: Console, words: Sequence[str]) -> Answer:
        """Build with BuildKit."""
        command = ("env", *_BUILD_ENVIRONMENT, *self.words(*words))
        return stream(command, console, boring=_BORING)

    def image_id(self, reference: str) -> str | None:
        """Return the id of a local image."""
        answer = self.ask("image", "inspect", "--format", "{{.Id}}", reference)
        return answer.out.strip() if answer.code == 0 else None

    def size_bytes(self, reference: str) -> int:
        """Return the size of a local image."""
        answer = self.ask("image", "inspect", "--format", "{{.Size}}", reference)
        return int(answer.out) if answer.code == 0 and answer.out.strip().isdigit() else 0

    def environment(self, reference: str) -> dict[str, str]:
        """Return the variables that a local image sets."""
        answer = self.ask("image", "inspect", "--format", "{{json .Config.Env}}", reference)
        found = json.loads(answer.out) if answer.code == 0 else []
        pairs = (str(entry).partition("=") for entry in found or [])
        return {name: value for name, _, value in pairs}

    def digest(self, reference: str) -> str | None:
        """Return the digest by which the image's own registry knows it."""
        answer = self.ask("image", "inspect", "--format", "{{json .RepoDigests}}", reference)
        name = repository_of(reference)
        found = json.loads(answer.out) if answer.code == 0 else []
        for entry in found or []:
            repository, _, digest = str(entry).partition("@")
            if repository == name:
                return digest
        return None


def repository_of(reference: str) -> str:
    """Return an image reference without tag and digest, as Docker prints it."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    return name.removeprefix("docker.io/library/").removeprefix("docker.io/")


def find(path: str) -> Engine | None:
    """Return the first client on `path` that builds; None when no engine answers at all.

    Raises: UserError when an engine answers but no client here can build with BuildKit.
    """
    answering: list[str] = []
    for client in _clients(path):
        answer = capture((client, "version", "--format", "{{.Client.Version}}"), timeout_s=15)
        if answer.code != 0:
            continue
        answering.append(client)
        if _builds(client, answer.out):
            return Engine(client)
    if answering:
        raise UserError(
            f"docker: should have BuildKit, found `{answering[0]}` without the buildx plugin. "
            f"Install docker-buildx (https://docs.docker.com/go/buildx/)."
        )
    return None


def _clients(path: str) -> Iterator[str]:
    for folder in dict.fromkeys(path.split(os.pathsep)):
        found = shutil.which("docker", path=folder) if folder else None
        if found:
            yield found


def _builds(client: str, version: str) -> bool:
    major = version.strip().split(".")[0]
    if major.isdigit() and int(major) < _BUILDX_NEEDED_SINCE:
        return True  # BuildKit is inside
    return capture((client, "buildx", "version")).code == 0


@contextmanager
def logged_in(engine: Engine, registry: str, login: Login | None, home: Path) -> Iterator[Engine]:
    """Yield the engine with a login of its own; without one the job's own configuration counts.

    The password goes into a file that only we can read and that is gone afterwards: never into an
    argument, which every process of the machine can see, and never into ~/.docker.
    """
    if login is None:
        yield engine
        return
    folder = Path(tempfile.mkdtemp(prefix="cynthus-docker-"))
    try:
        _write_config(folder, home, registry, login)
        yield Engine(engine.client, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_config(folder: Path, ambient: Path, registry: str, login: Login) -> None:
    """Write the ambient configuration plus one login; plug-ins (buildx) stay where they are."""
    for entry in ambient.iterdir() if ambient.is_dir() else ():
        if entry.name != "config.json":
            (folder / entry.name).symlink_to(entry.resolve())
    config = _ambient_config(ambient / "config.json")
    host = registry.split("/", maxsplit=1)[0]
    key = _HUB_KEY if host in {"docker.io", "index.docker.io"} else host
    pair = f"{login.username}:{login.password}".encode()
    config.setdefault("auths", {})[key] = {"auth": base64.b64encode(pair).decode()}
    # A credential store would be asked instead of the line above, but not for a host named here.
    config.setdefault("credHelpers", {})[key] = ""
    path = folder / "config.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(config, file)


def _ambient_config(path: Path) -> dict[str, dict[str, object]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
