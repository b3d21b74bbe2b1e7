"""Places that play machines for tests, and what is asked of the machines in them."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from simulators.gcp_machines import Machine, Machines, Played, PlayError
from simulators.gcp_namespaces import Namespaces

LIMIT_S = 60.0  # a boot takes half a second, on a busy machine many more
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "HOME": "/root"}  # a machine has none of the host's
COS = "projects/cos-cloud/global/images/family/cos-stable"


def a_machine(name: str, user_data: str = "", **more: Any) -> Machine:
    attributes = {"user-data": user_data, **more.pop("attributes", {})}
    instance = {
        "id": 4242,
        "name": name,
        "preempted": "FALSE",
        "attributes": attributes,
        "service-accounts": {"default": {"email": "run@p.iam", "scopes": ["cloud-platform"]}},
    }
    project = {"project-id": "p", "numeric-project-id": 7, "attributes": {}}
    parts: dict[str, Any] = {
        "cpus": 2,
        "memory_bytes": 1 << 30,
        "disk_bytes": 2 << 30,
        "gpus": 0,
        "gpu_model": "",
        "boot_image": COS,
        "metadata": {"instance": instance, "project": project},
    }
    return Machine(name=name, **{**parts, **more})


def eventually(what: str, check: Callable[[], Any]) -> Any:
    until = time.monotonic() + LIMIT_S
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < until, f"not in {LIMIT_S} s: {what}"
        time.sleep(0.01)


def says(machines: Machines, name: str, text: str) -> str:
    """Return the serial output once it has `text`."""

    def look() -> str:
        output = machines.serial(name)
        assert machines.state(name) is not Played.OFF or text in output, output[-3000:]
        return output if text in output else ""

    try:
        return str(eventually(text, look))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{machines.serial(name)[-3000:]}") from None


def is_off(machines: Machines, name: str) -> None:
    eventually(f"{name} is off", lambda: machines.state(name) is Played.OFF)


def run_in(machines: Namespaces, name: str, script: str) -> str:
    """Return what a shell script says in a machine."""

    def enter() -> list[str]:
        try:
            return machines.enter(name)
        except PlayError:  # it has no first process yet
            return []

    words = [*eventually(f"{name} has a first process", enter), "sh", "-c", script]
    done = subprocess.run(
        words, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    return done.stdout + done.stderr


def namespaces(folder: Path, reach: list[int]) -> Namespaces:
    """Return a place with machines in namespaces, or skip; where everything can be had, fail."""
    try:
        return Namespaces(folder, reach)
    except PlayError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


class Host:
    """A small HTTP service on loopback that counts who calls."""

    def __init__(self, server: ThreadingHTTPServer, calls: list[str]) -> None:
        self.port = int(server.server_address[1])
        self.calls = calls


@contextmanager
def a_host() -> Iterator[Host]:
    """Answer every path with its own name; `/blob/N` with N bytes."""
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None: ...

        def do_GET(self) -> None:
            calls.append(self.path)
            body = self.path.encode()
            if self.path.startswith("/blob/"):
                body = b"x" * int(self.path.rpartition("/")[2])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield Host(server, calls)
    server.shutdown()
    thread.join()
    server.server_close()


def small_tree() -> bytes:
    """Return an image's only layer: a shell and a few programs of this host, with libraries."""
    programs = [f"/usr/bin/{name}" for name in ("sh", "cat", "sleep", "ls", "curl")]
    needed = set(programs)
    for program in programs:
        answer = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        needed |= {word for word in answer.stdout.split() if word.startswith("/")}
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for path in sorted(needed):
            archive.add(os.path.realpath(path), path.lstrip("/"))
    return memory.getvalue()
