"""A Google Cloud simulator of one's own: started as a program, steered over HTTP."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import requests
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from demo.processes import free_port

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT_S = 60  # a busy machine may take its time to import, and to build what machines boot
Client = TypeVar("Client")


class GcpSimulator:
    """A running simulator and its control endpoints."""

    def __init__(
        self, state_dir: Path, machines: str = "none", reach: Sequence[int] = (), port: int = 0
    ) -> None:
        self.state = state_dir
        self.project = "cynthus-sim"
        self.url = ""
        self.exchanges = state_dir / "exchanges.jsonl"  # every API request with its answer
        self.process: subprocess.Popen[str] | None = None
        self._machines = machines
        self._reach = ",".join(str(number) for number in reach)
        self._port = port or free_port()  # it comes back there after any end

    def start(self) -> None:
        """Start the program and wait until it says where it is; again: on the same port."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "simulators", "gcp", *self._words()],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        timer = threading.Timer(START_LIMIT_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if "gcp simulator at " not in line:
            self.stop()
            raise RuntimeError(f"the Google Cloud simulator did not start, it said: {line!r}")
        self.url = line.rpartition(" ")[2].strip()
        self._port = int(self.url.rpartition(":")[2])

    def _words(self) -> list[str]:
        words = ["--port", str(self._port), "--state", str(self.state)]
        words += ["--machines", self._machines, "--project", self.project]
        words += ["--reach", self._reach, "--exchanges", str(self.exchanges)]
        return words

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the program with all its machines; safe to repeat."""
        if self.process is None:
            return
        self.process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=60)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def kill(self) -> None:
        """End the program as a power switch does."""
        self.stop(signal.SIGKILL)

    def sim(self, method: str, path: str, body: Any = None) -> Any:
        """Call a control endpoint; raise when it refuses."""
        answer = requests.request(method, f"{self.url}/_sim{path}", json=body, timeout=90)
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} /_sim{path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def post(self, path: str, body: Any = None, /, **more: Any) -> Any:
        """POST to a control endpoint."""
        return self.sim("POST", path, {**(body or {}), **more})

    def fault(self, kind: str, match: dict[str, str] | None = None, **more: Any) -> Any:
        """Switch a fault on."""
        return self.post("/faults", {"kind": kind, "match": match or {}, **more})

    def client(self, kind: type[Client]) -> Client:
        """Return one of Google's own clients (`compute_v1.InstancesClient`), pointed here."""
        make: Any = kind
        made: Client = make(
            client_options=ClientOptions(api_endpoint=self.url), credentials=AnonymousCredentials()
        )
        return made

    def wait_for(self, operation: Any) -> Any:
        """Wait for a zone operation of the official client; returns it when it is done."""
        operations = self.client(compute_v1.ZoneOperationsClient)
        zone = operation.zone.rpartition("/")[2]
        while operation.status != compute_v1.Operation.Status.DONE:
            operation = operations.wait(
                project=self.project, zone=zone, operation=operation.name, timeout=150
            )
        return operation


def new_request_id() -> str:
    """Return a request id as Compute Engine takes them."""
    return str(uuid.uuid4())


@contextlib.contextmanager
def gcp_simulator(
    state_dir: Path, machines: str = "none", reach: Sequence[int] = ()
) -> Iterator[GcpSimulator]:
    """Run a simulator with its state in a folder."""
    simulator = GcpSimulator(state_dir, machines, reach)
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
