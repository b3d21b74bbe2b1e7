"""Talk with the stager: a hub's own client in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runner_images.agent.workload import CannotStart

LOOK_S = 0.5  # how often a stop is looked for
STDERR_BYTES = 2000  # of a client's last words
QUEUED = 8  # pages of the tree: a hub's pages do not pile up in memory
# What the client gets of the agent's environment: no setting, token or login of anybody.
INHERITED = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class ClientFault(CannotStart):
    """The hub's client could not; `passes`: the same may succeed later."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, infrastructure=reason in ("network", "client"))
        self.passes = reason == "network"


@dataclass(frozen=True, kw_only=True)
class Stager:
    """How the stager is started, and for how long it may work."""

    python: str
    scratch: Path  # its home, and its folder for what is temporary
    stopping: Callable[[], bool]
    look: Callable[[], None]  # called at least every half a second while it works

    def run(self, request: dict[str, Any], skip: Callable[[Iterator[Any]], list[str]]) -> list[Any]:
        """Let the stager answer one request; return what it told after the tree.

        `skip` takes the tree's files as they are told and returns the paths not to be fetched.
        Raises: ClientFault; CannotStart when it was stopped.
        """
        child = self._start()
        try:
            return self._talk(child, request, skip)
        finally:
            self._end(child)

    def _start(self) -> subprocess.Popen[bytes]:
        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in (*INHERITED, *PROXIES) if name in os.environ}
        home = str(self.scratch)
        environment = {
            **kept,
            "HOME": home,
            "TMPDIR": home,
            "HF_HOME": home,
            "KAGGLE_CONFIG_DIR": home,
            "HF_HUB_DISABLE_XET": "1",  # plain HTTP: bytes come in order, and are hashed as such
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        }
        try:
            return subprocess.Popen(
                [self.python, "-P", "-c", _PROGRAM, _import_path()],
                cwd=self.scratch,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ClientFault(f"data: the stager cannot be started: {error}", "client") from error

    def _talk(
        self,
        child: subprocess.Popen[bytes],
        request: dict[str, Any],
        skip: Callable[[Iterator[Any]], list[str]],
    ) -> list[Any]:
        assert child.stdin and child.stdout and child.stderr  # noqa: S101, PT018 - Popen got pipes
        lines: queue.Queue[bytes] = queue.Queue(QUEUED)
        said = _LastWords(child.stderr)
        threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
        messages = self._messages(lines, said)
        _write(child.stdin, request)
        _write(child.stdin, {"skip": skip(_tree(messages))})
        return [message for message in messages if message["event"] != "done"]

    def _messages(self, lines: queue.Queue[bytes], said: _LastWords) -> Iterator[dict[str, Any]]:
        while True:
            self.look()
            if self.stopping():
                raise CannotStart("stopped while its data was staged", infrastructure=False)
            try:
                line = lines.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if not line:
                text = f"data: the hub's client ended without an answer: {said.text()}"
                raise ClientFault(text, "network")
            message: dict[str, Any] = json.loads(line)
            if message["event"] == "fault":
                raise ClientFault(str(message["text"]), str(message["reason"]))
            yield message
            if message["event"] == "done":
                return

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        # First: closing a pipe waits for the thread that reads it, and so for what the child says.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None  # noqa: S101 - as above
                pipe.close()


def _tree(messages: Iterator[dict[str, Any]]) -> Iterator[Any]:
    for message in messages:
        if message["event"] == "listed":
            return
        yield from message["files"]


# Of the agent's own import path this one package is taken: what else lies there, or in the packed
# agent, must not hide the clients' own versions.
_PROGRAM = """
import runpy, sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
spec = PathFinder.find_spec("runner_images", [sys.argv.pop()])
package = sys.modules["runner_images"] = module_from_spec(spec)
spec.loader.exec_module(package)
runpy.run_module("runner_images.agent.stager", run_name="__main__")
"""


def _import_path() -> str:
    """Return the folder, or the packed agent, that `runner_images` is imported from."""
    return str(Path(__file__).parents[2])


def _write(pipe: IO[bytes], message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # its last words say why
        pipe.write(json.dumps(message).encode() + b"\n")
        pipe.flush()


def _read(pipe: IO[bytes], lines: queue.Queue[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed: nobody listens any more
        for line in pipe:
            lines.put(line)
    lines.put(b"")


class _LastWords:
    """The end of what a process says on a pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._end = b""
        self._thread = threading.Thread(target=self._follow, args=(pipe,), daemon=True)
        self._thread.start()

    def _follow(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self._end = (self._end + line)[-STDERR_BYTES:]

    def text(self) -> str:
        """Return the last line, once the process has closed its end."""
        self._thread.join(LOOK_S)
        return (self._end.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[-1]
