"""Registries of one's own for a test: Debian's, and each kind of the simulator."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from action.registry.client import Registry
from action.registry.registries import BY_NAME
from action.registry.tokens import Credentials
from tests.registry_fixture import a_registry

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("distribution", "ghcr", "artifact-registry", "hub")
USER, PASSWORD = "robot", "s3cret-of-the-robot"
LOGIN = Credentials(username=USER, password=PASSWORD)
REFRESH = Credentials(username="", identity_token="a-refresh-token")
START_LIMIT_S = 60


class Simulator:
    """A running simulator and its control endpoints."""

    def __init__(self, kind: str, folder: Path, *words: str) -> None:
        self.kind = kind
        command = [sys.executable, "-m", "simulators", "registry", "--kind", kind]
        command += ["--state", str(folder), "--user", f"{USER}:{PASSWORD}"]
        command += ["--identity-token", f"{USER}:{REFRESH.identity_token}"]
        command += ["--repository", "acme/train", *words]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        timer = threading.Timer(START_LIMIT_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        assert "registry simulator at " in line, line
        self.url = line.split()[-1]
        self.host = self.url.removeprefix("http://")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def fault(self, kind: str, **wish: Any) -> None:
        """Arm a fault."""
        self.control("POST", "faults", {"kind": kind, **wish})

    def seen(self, method: str | None = None) -> list[dict[str, Any]]:
        """Return the requests since `forget`."""
        found: list[dict[str, Any]] = self.control("GET", "requests")
        return [line for line in found if method in {None, line["method"]}]

    def forget(self) -> None:
        """Disarm all faults, forget all requests."""
        self.control("DELETE", "faults")
        self.control("DELETE", "requests")

    def control(self, method: str, name: str, body: object = None) -> Any:
        """Call a control endpoint."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_sim/{name}", data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


class Waits(list[float]):
    """Stands in for time: remembers how long would have been waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(host: str, name: str, login: Credentials | None = LOGIN, **more: Any) -> Registry:
    """Return a client that takes a loopback registry for one of the named kind."""
    more.setdefault("wait", Waits())
    more.setdefault("kind", BY_NAME[name])
    return Registry(host, login, **more)


@contextmanager
def debian(folder: Path) -> Iterator[str]:
    """Run Debian's registry; yield its host."""
    with a_registry(folder) as running:
        yield running.host
