"""A Docker engine with a tiny image, found or started for the tests that need one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest

from demo.services import docker_engine
from runner_images.agent.engine import DEFAULT_SOCKET

# Of this test process alone: another one removes its own at its end, and with it the name.
IMAGE = f"cynthus-test/agent-{os.getpid()}"
TREE_PROGRAMS = [
    "bash",
    "sh",
    "cat",
    "ls",
    "env",
    "id",
    "sleep",
    "kill",
    "mkfifo",
    "ln",
    "dd",
    "head",
    "seq",
    "touch",
    "mkdir",
    "rm",
    "yes",
    "tr",
    "timeout",
]


@pytest.fixture(scope="session")
def engine_socket() -> Iterator[str]:
    """The engine's socket; one that had to be started ends with the last that uses it."""
    engine = docker_engine()
    if engine.client is None:
        pytest.skip(engine.why_not)
    yield DEFAULT_SOCKET
    engine.stop()


@pytest.fixture(scope="session")
def image(engine_socket: str) -> Iterator[str]:
    """The id of an image with bash, Python's standard library and a workspace of user 1000."""
    client = docker.APIClient(base_url=f"unix://{engine_socket}", version="auto")
    changes = ["USER 1000:1000", "WORKDIR /workspace", "ENV PATH=/usr/bin:/bin", "ENV HOME=/tmp"]
    found = client.import_image_from_data(tree(), repository=IMAGE, changes=changes)
    image_id = _imported(found)
    yield image_id
    client.remove_image(image_id, force=True)
    client.close()


def _imported(answer: str) -> str:
    return str(json.loads(answer.strip().splitlines()[-1])["status"])


def tree(more: Mapping[str, Path] | None = None) -> bytes:
    """Return this machine's own programs, with the libraries they load, as an image's files.

    `more` files lie where their names say.
    """
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for folder, mode, owner in (
            ("tmp", 0o1777, 0),
            ("workspace", 0o755, 1000),
            ("proc", 0o755, 0),
            ("etc", 0o755, 0),
        ):
            item = tarfile.TarInfo(folder)
            item.type, item.mode, item.uid, item.gid = tarfile.DIRTYPE, mode, owner, owner
            archive.addfile(item)
        for path in sorted(_files()):
            archive.add(os.path.realpath(path), path.lstrip("/"), recursive=False)
        _python(archive)
        for name, path in (more or {}).items():
            archive.add(path, name)
    return memory.getvalue()


def _files() -> set[str]:
    programs = {_which(name) for name in TREE_PROGRAMS} | {"/usr/bin/python3"}
    needed: set[str] = set()
    for program in programs | _extension_modules():
        answer = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        words = (word for line in answer.stdout.splitlines() for word in line.split())
        needed |= {word for word in words if word.startswith("/")}
    return programs | needed


def _which(name: str) -> str:
    for folder in ("/bin", "/usr/bin"):
        if os.path.exists(f"{folder}/{name}"):
            return f"/usr/bin/{name}"
    raise FileNotFoundError(name)


def _library() -> Path:
    found = subprocess.run(
        ["/usr/bin/python3", "-c", "import os; print(os.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(found.stdout.strip()).parent


def _extension_modules() -> set[str]:
    folder = _library() / "lib-dynload"
    names = ("*socket*", "_ctypes.*", "_ssl.*", "_hashlib.*", "zlib.*")
    return {str(path) for name in names for path in folder.glob(name)}


def _python(archive: tarfile.TarFile) -> None:
    library = _library()
    leave_out = {"test", "__pycache__", "site-packages", "dist-packages", "idlelib", "ensurepip"}
    for path in sorted(library.rglob("*")):
        if not leave_out & set(path.relative_to(library).parts) and path.is_file():
            archive.add(os.path.realpath(path), str(path).lstrip("/"), recursive=False)
