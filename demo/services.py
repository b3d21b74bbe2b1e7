"""Find or start the real services beside Cynthus: a Docker engine, a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from demo.processes import Program, Programs, StageError, answers, free_port, wait_until
from demo.shared_program import SharedProgram, Use

# One for each user of the machine: nobody may open another's files there.
FOLDER = Path(tempfile.gettempdir()) / f"cynthus-dockerd-{os.geteuid()}"
ENGINE_LIMIT_S = 20  # an engine that answers does so in well under a second


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers, or the reason why there is none."""

    client: str | None  # path of the docker program
    why_not: str = ""
    use: Use | None = None

    def stop(self) -> None:
        """Let it go; one that was started here ends with its last user. Safe to repeat."""
        if self.use is not None:
            self.use.stop()


def docker_engine() -> Engine:
    """Return the engine of this machine, starting Debian's when root and none answers."""
    client = docker_client()
    if client is None:
        return Engine(None, "no docker program on PATH")
    program = SharedProgram(
        folder=FOLDER,
        name="dockerd",
        answers=lambda: _engine_answers(client),
        start=lambda: _start_engine(client),
    )
    try:
        return Engine(client, use=program.use())
    except StageError as error:
        return Engine(None, str(error))


def docker_client() -> str | None:
    """Return a docker program that can build with BuildKit, preferring Debian's.

    A newer client without the buildx plug-in refuses BuildKit against an older engine.
    """
    for candidate in ("/usr/bin/docker", shutil.which("docker")):
        if candidate and Path(candidate).exists():
            return candidate
    return None


def _engine_answers(client: str) -> bool:
    try:
        answer = subprocess.run(
            [client, "version"], capture_output=True, timeout=ENGINE_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0


def _start_engine(client: str) -> Program:
    if os.geteuid() != 0 or not Path("/usr/sbin/dockerd").exists():
        raise StageError("no Docker engine answers, and only root can start one here")
    program = Programs(FOLDER).start("dockerd", ["/usr/sbin/dockerd"])
    try:
        wait_until(lambda: _engine_answers(client), "the Docker engine", program)
    except StageError:
        program.stop()
        raise
    return program


@dataclass(frozen=True)
class Registry:
    """A registry on loopback."""

    address: str  # host:port
    program: Program


def registry(programs: Programs, folder: Path) -> Registry:
    """Start Debian's docker-registry on a free loopback port with its blobs in `folder`."""
    program_path = shutil.which("docker-registry")
    if program_path is None:
        raise StageError(
            "registry: should be installed as `docker-registry`. On Debian as root: make system."
        )
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "registry.yml"
    settings.write_text(
        "version: 0.1\n"
        "log: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/blobs}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n",
        "utf-8",
    )
    program = programs.start("registry", [program_path, "serve", str(settings)])
    wait_until(lambda: answers(port), "the registry", program)
    return Registry(f"127.0.0.1:{port}", program)


def forget_images(client: str, images: Registry) -> None:
    """Remove what the engine has of a registry that ends, since its address never comes again."""
    line = "{{.Repository}} {{.Tag}} {{.Digest}}"
    words = [client, "images", "--all", "--digests", "--format", line]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    found = [one.split() for one in listed.splitlines() if one.startswith(f"{images.address}/")]
    names = {
        f"{name}@{digest}" if tag == "<none>" else f"{name}:{tag}" for name, tag, digest in found
    }
    if names:
        subprocess.run([client, "rmi", *sorted(names)], capture_output=True, check=False)
