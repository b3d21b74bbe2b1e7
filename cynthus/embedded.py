"""Start the programs that `cynthus run` stands on, and end them with it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cynthus.client import Client
from cynthus.errors import CynthusError, UserError
from cynthus.interrupts import Interrupts

START_LIMIT_S = 30.0  # the server answers within a second; a busy laptop gets thirty
STOP_LIMIT_S = 90.0  # it grants its runs a minute, then deletes what is left
FORCED_LIMIT_S = 30.0  # told to end at once it only deletes
BUILD_END_S = 10.0  # the builder grants its own programs five
LOOK_S = 0.02

# Python finds our packages where ours are, a checkout or an installation, and nothing in the
# folder it stands in: that one is the user's, and may well have an `action` or a `json.py`.
_BOOT = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module({!r}, alter_sys=True, run_name='__main__')"  # noqa: E501 - one program


def words_of(module: str, *words: str) -> list[str]:
    """Return the command line of one of our own programs."""
    root = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-P", "-c", _BOOT.format(module), root, *words]


def environment_without(names: Sequence[str]) -> dict[str, str]:
    """Return our environment without settings of a server, nor values that are secret."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CYNTHUS_") and name not in names
    }


# ── the builder ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class BuildOrder:
    """What shall be built."""

    folder: Path
    spec: str  # its path below the folder
    bundles: Path  # where a build without Docker puts its result
    process: bool
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came of a build: an image, or the builder's exit code with its words."""

    image: str | None
    engine: str = ""
    code: int = 0
    failure: str = ""


def build(order: BuildOrder, tell: Callable[[str], None]) -> Built:
    """Build with the Action's own builder, a line at a time told. Ctrl-C ends it and passes on."""
    words = ["build", "--no-push", "--json", "--while-input", "--spec", order.spec]
    words += ["--folder", str(order.folder), "--out", str(order.bundles)]
    words += ["--process"] if order.process else []
    with _builder(words_of("action", *words), order) as builder:
        errors: list[str] = []
        reader = threading.Thread(target=_relay, args=(builder.stderr, tell, errors), daemon=True)
        reader.start()
        answer = _last_line(builder.stdout)
        code = builder.wait()
        reader.join()
    if code == 0 and "image" in answer:
        return Built(image=str(answer["image"]), engine=str(answer.get("engine", "")))
    told = "\n".join(errors) or str(answer.get("failure") or f"the builder ended with {code}")
    return Built(image=None, code=code or 3, failure=told)


@contextlib.contextmanager
def _builder(words: list[str], order: BuildOrder) -> Iterator[subprocess.Popen[bytes]]:
    # A session of its own: Ctrl-C is ours to pass on.
    builder = subprocess.Popen(
        words,
        cwd=order.folder,
        env=dict(order.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield builder
    except BaseException:
        _end(builder)
        raise
    finally:
        for pipe in (builder.stdin, builder.stdout, builder.stderr):
            if pipe is not None:
                pipe.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program that ends its own programs, then for certain."""
    child.terminate()
    try:
        child.wait(BUILD_END_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _relay(pipe: IO[bytes] | None, tell: Callable[[str], None], errors: list[str]) -> None:
    """Tell each line, but for errors: they are the answer, told once at the end."""
    with contextlib.suppress(ValueError):  # closed under our hands, when the build is given up
        for line in pipe or ():
            text = line.decode("utf-8", "replace").rstrip()
            if text.startswith("error: "):
                errors.append(text.removeprefix("error: "))
            elif text:
                tell(text)


def _last_line(pipe: IO[bytes] | None) -> dict[str, Any]:
    lines = pipe.read().decode("utf-8", "replace").split("\n") if pipe else []
    with contextlib.suppress(json.JSONDecodeError, IndexError):
        found = json.loads([line for line in lines if line.strip()][-1])
        if isinstance(found, dict):
            return found
    return {}


# ── the server ──────────────────────────────────────────────────────────────────────────────────


class Embedded:
    """A server for one run; its standard input is the line by which it lives.

    When this process ends, however it ends, that input closes: the server then cancels what
    still runs, waits until it is gone, removes the scratch folder, and ends.
    """

    def __init__(self, scratch: Path, secret_values: Mapping[str, str]) -> None:
        self._scratch = scratch
        self._token = secrets.token_hex(24)
        self._ready = scratch / "ready.json"
        self._log = scratch / "server.log"
        self._environment = {
            **environment_without(tuple(secret_values)),
            "CYNTHUS_STATE_DIR": str(scratch / "server"),
            "CYNTHUS_PORT": "0",
            "CYNTHUS_READY_FILE": str(self._ready),
            "CYNTHUS_API_TOKEN": self._token,
            "CYNTHUS_BUNDLES_DIR": str(scratch),
            "CYNTHUS_LOCAL_SLOTS": "1",
        }
        for name, value in secret_values.items():
            self._keep(name, value)
        self._process = self._start(subprocess.PIPE)

    def _keep(self, name: str, value: str) -> None:
        """Put a secret into the server's store, through a pipe: no one else can see it there."""
        words = words_of("webhook_server", "secret", "set", "--repository-id", "0", name)
        done = subprocess.run(
            words,
            cwd=self._scratch,
            env=self._environment,
            input=value.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise UserError(f"secrets/{name}: {done.stderr.decode('utf-8', 'replace').strip()}")

    def _start(self, line: int) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as sink:
            return subprocess.Popen(
                words_of("webhook_server", "--embedded", "--scratch", str(self._scratch)),
                cwd=self._scratch,  # the server reads .env where it stands: not the user's
                env=self._environment,
                stdin=line,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def client(self) -> Client:
        """Wait for its first answer. Raises: CynthusError with what it said instead."""
        tick = threading.Event()
        for _ in range(int(START_LIMIT_S / LOOK_S)):
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                return Client(str(json.loads(self._ready.read_text("utf-8"))["url"]), self._token)
            if self._process.poll() is not None:
                break
            tick.wait(LOOK_S)
        raise CynthusError(f"the embedded server did not start. {self._last_words()}")

    def watch(self, tell: Callable[[CynthusError], None]) -> None:
        """Have its end told, since nothing else would for a while."""

        def wait() -> None:
            code = self._process.wait()
            tell(CynthusError(f"the embedded server ended early ({code}). {self._last_words()}"))

        threading.Thread(target=wait, name="server", daemon=True).start()

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return "It left no log."
        return "\n".join(["Its log ends:", *lines[-5:]])

    def stop(self, interrupts: Interrupts, *, now: bool = False) -> bool:
        """Let it end its runs, then itself; `now` and Ctrl-C hurry it. False: it had to be killed.

        Whatever happened to it, what it started is gone afterwards.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if now:
            self._process.terminate()
        with interrupts.told_to(self._process.terminate):
            orderly = self._wait(FORCED_LIMIT_S if now else STOP_LIMIT_S)
            if orderly and self._process.returncode == 0:
                return True
            # It fell or hung: another one on the same state, at the same address, hears the agents
            # and ends the runs in order.
            self._environment["CYNTHUS_PORT"] = self._port()
            self._process = self._start(subprocess.DEVNULL)
            return self._wait(STOP_LIMIT_S) and orderly

    def _port(self) -> str:
        try:
            return str(json.loads(self._ready.read_text("utf-8"))["url"]).rpartition(":")[2]
        except (OSError, ValueError):  # it never answered, so nobody knows its address
            return "0"

    def _wait(self, limit_s: float) -> bool:
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True
