"""`cynthus run`: build this folder's spec, run it here and now, without GitHub."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynthus import specfile
from cynthus.client import Client
from cynthus.errors import CynthusError, UserError
from cynthus.screen import Screen, open_screen
from cynthus.spec import Spec
from cynthus.wire import EventKind, RunRequest, RunView

START_LIMIT_S = 30.0  # the embedded server answers within a second; a busy laptop gets thirty
STOP_LIMIT_S = 90.0  # it cancels what runs, waits for the agent's grace, then drains


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--spec", default="cynthus.yaml", help="the spec (default: cynthus.yaml)")
    parser.add_argument("--out", default="cynthus-outputs", help="folder for outputs")
    parser.add_argument("--plain", action="store_true", help="plain lines, no live status")
    parser.add_argument(
        "--process", action="store_true", help="run as a plain process, without Docker"
    )


def run(args: argparse.Namespace) -> int:
    """Run the spec; exit 0 when it succeeded, 1 when it did not, 2 for a faulty spec."""
    path = Path(args.spec)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: should be a readable spec, found: {error.strerror}. "
            "Write one with `cynthus init`, or name yours with --spec."
        ) from error
    spec = specfile.parse(text, str(path))
    screen = open_screen(plain=args.plain)
    try:
        with tempfile.TemporaryDirectory(prefix="cynthus-run-") as state:
            return _run(_Job(args, path, text, spec, Path(state), screen))
    finally:
        screen.close()


@dataclass(frozen=True)
class _Job:
    args: argparse.Namespace
    path: Path
    text: bytes
    spec: Spec
    state: Path
    screen: Screen


def _run(job: _Job) -> int:
    image = _build(job)
    with _server(job) as (client, interrupts):
        run_id = client.submit(_request(job, image)).run_id
        _follow(client, run_id, job.screen, interrupts)
        view = client.get(run_id)
        _fetch(client, view, job)
        job.screen.say(_summary(view))
        return 0 if view.outcome == "succeeded" else 1


# ── building ────────────────────────────────────────────────────────────────────────────────────


def _build(job: _Job) -> str:
    """Build with the Action's own builder, started as a program; return the image's reference."""
    words = [
        sys.executable,
        "-m",
        "action",
        "build",
        "--spec",
        job.path.name,
        "--no-push",
        "--json",
    ]
    words += ["--out", str(job.state / "build")]
    if job.args.process:
        words.append("--process")
    job.screen.say("building the image")
    folder = job.path.resolve().parent
    with _child(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as builder:
        reader = threading.Thread(target=_relay, args=(builder, job.screen))
        reader.start()
        assert builder.stdout is not None  # noqa: S101 - asked for above
        answer = builder.stdout.read().decode("utf-8", "replace").strip().splitlines()
        code = builder.wait()
        reader.join()
    if code != 0 or not answer:
        raise UserError("the image could not be built; what went wrong stands above.")
    built: dict[str, Any] = json.loads(answer[-1])
    return str(built["image"])


def _relay(builder: subprocess.Popen[bytes], screen: Screen) -> None:
    assert builder.stderr is not None  # noqa: S101 - asked for above
    for line in builder.stderr:
        screen.say(line.decode("utf-8", "replace").rstrip())


@contextlib.contextmanager
def _child(words: list[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a session of its own, so that Ctrl-C is ours to pass on; end it with us."""
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True, **how) as child:
        try:
            yield child
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            raise


# ── the embedded server ─────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _server(job: _Job) -> Iterator[tuple[Client, threading.Event]]:
    """Start a server for this one run; its standard input is the line by which it lives.

    When this process ends, however it ends, that input closes: the server then cancels what
    still runs, waits until it is gone, and ends.
    """
    token = secrets.token_hex(24)
    ready = job.state / "ready.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CYNTHUS_")},
        "CYNTHUS_STATE_DIR": str(job.state / "server"),
        "CYNTHUS_PORT": "0",
        "CYNTHUS_READY_FILE": str(ready),
        "CYNTHUS_API_TOKEN": token,
        "CYNTHUS_BUNDLES_DIR": str(job.state),
        "CYNTHUS_LOG_LEVEL": "WARNING",
    }
    log = job.state / "server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [sys.executable, "-m", "webhook_server", "--embedded"],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    interrupts = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupts.set())
    try:
        yield Client(_address(server, ready, log), token), interrupts
    finally:
        signal.signal(signal.SIGINT, before)
        assert server.stdin is not None  # noqa: S101 - asked for above
        server.stdin.close()
        try:
            server.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            job.screen.say("the embedded server did not end in time and was killed")


def _address(server: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    tick = threading.Event()
    for _ in range(int(START_LIMIT_S / 0.02)):
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return str(json.loads(ready.read_text("utf-8"))["url"])
        if server.poll() is not None:
            break
        tick.wait(0.02)
    tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-5:])
    raise CynthusError(f"the embedded server did not start. Its log ends:\n{tail}")


# ── the run ─────────────────────────────────────────────────────────────────────────────────────


def _request(job: _Job, image: str) -> RunRequest:
    return RunRequest(
        repository_id=0,
        repository=f"local/{job.spec.name}",
        commit_sha=_commit(job),
        ref="",
        event="local",
        trigger=f"local/{secrets.token_hex(8)}",
        spec_path=job.path.name,
        spec_text=job.text.decode("utf-8"),
        image=image,
    )


def _commit(job: _Job) -> str:
    """Return the commit checked out here; outside git a digest of the spec stands in for it."""
    words = ["git", "-C", str(job.path.resolve().parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError):
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return hashlib.sha1(job.text, usedforsecurity=False).hexdigest()


def _follow(client: Client, run_id: str, screen: Screen, interrupts: threading.Event) -> None:
    """Show the run to its end; the first Ctrl-C cancels it, and the end is still awaited."""
    stop_watching = threading.Event()
    watcher = threading.Thread(
        target=_cancel_when_asked, args=(client, run_id, screen, interrupts, stop_watching)
    )
    watcher.start()
    try:
        for event in client.follow(run_id):
            screen.show(event)
            if event.kind is EventKind.STATE and event.body.get("state") == "finished":
                return
    finally:
        stop_watching.set()
        watcher.join()


def _cancel_when_asked(
    client: Client,
    run_id: str,
    screen: Screen,
    interrupts: threading.Event,
    stop_watching: threading.Event,
) -> None:
    while not stop_watching.is_set():
        if interrupts.wait(0.1):  # a signal handler may set an event but not call the server
            interrupts.clear()
            screen.say("cancelling: the command is being stopped, its outputs are kept")
            client.cancel(run_id)


def _fetch(client: Client, view: RunView, job: _Job) -> None:
    """Copy the outputs and the log to `<out>/<run>`."""
    folder = Path(job.args.out) / view.id
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("wb") as log:
        log.writelines(client.log(view.id))
    for output in client.outputs(view.id):
        client.download(output, folder)
        job.screen.say(
            f"output {output.path} ({output.size_bytes:,} bytes) → {folder / output.path}"
        )
    if not any(folder.iterdir()):
        shutil.rmtree(folder)


def _summary(view: RunView) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in view.metrics.items())
    lines = [f"{view.name}: {view.outcome}: {view.reason}"]
    return "\n".join([*lines, f"   metrics: {metrics}"] if metrics else lines)
