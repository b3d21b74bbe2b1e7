"""Run the agent: `python -m runner_images.agent run --server URL --instance NAME …`."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cynthus.wire import Enrolled, Enrolment, Facts, Mark, NextWork
from runner_images.agent import VERSION, engine
from runner_images.agent.boot import boot_fault, boot_marks
from runner_images.agent.clock import elapsed_s, wall_clock
from runner_images.agent.container_gpus import GpuMode
from runner_images.agent.door import Door, TurnedAway, Unanswered, is_protected
from runner_images.agent.identity import NoProof, google_token, read_secret
from runner_images.agent.life import LOCK_FILE, Instance, Life
from runner_images.agent.metadata import DEFAULT_URL, Metadata, NoMetadata
from runner_images.agent.registry import google_login
from runner_images.agent.sampling import found_facts
from runner_images.agent.takeback import PREEMPTED, watch, watch_maintenance
from runner_images.agent.uplink import enrol
from runner_images.agent.warm import Waiting, next_work

DONE, REFUSED, WRONG_USE, FAILED = 0, 1, 2, 3
PR_SET_DUMPABLE = 4  # https://man7.org/linux/man-pages/man2/prctl.2.html


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; the exit code is for whoever started the agent."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.verb == "poll":
        _say(
            "agent poll: registered nodes are not part of this version. "
            "Use `agent run`, which the server's providers start."
        )
        return WRONG_USE
    if arguments.identity == "secret" and arguments.secret_file is None:
        parser.error("--secret-file: is needed with --identity secret")
    if not is_protected(arguments.server):
        parser.error("--server: should be https outside this machine. Set CYNTHUS_PUBLIC_URL so.")
    return _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agent", description="Cynthus' program on the instance", allow_abbrev=False
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run one attempt on this machine, then end")
    run.add_argument("--server", required=True, metavar="URL", help="the control plane")
    run.add_argument("--instance", required=True, metavar="NAME", help="the name it was given")
    run.add_argument(
        "--state-dir", required=True, type=Path, help="folder for this instance's files"
    )
    run.add_argument("--secret-file", type=Path, help="file with the enrolment secret")
    run.add_argument("--engine", choices=("auto", "docker", "process"), default="auto")
    run.add_argument("--control-plane", default="", help="id put on every container")
    run.add_argument("--max-life", type=float, default=0.0, help="seconds until everything ends")
    run.add_argument(
        "--cache-dir", type=Path, help="folder for data that stays between runs; default: beside"
    )
    run.add_argument("--reachable", action="append", default=[], help=argparse.SUPPRESS)
    run.add_argument("--lock-fd", type=int, default=-1, help=argparse.SUPPRESS)
    _add_cloud_arguments(run)
    verbs.add_parser("poll", help="ask for work as a registered node")
    return parser


def _add_cloud_arguments(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--identity",
        choices=("secret", "google"),
        default="secret",
        help="what is shown at the enrolment; google: a Google Cloud machine lent for this alone",
    )
    run.add_argument("--audience", default="", help="of the identity token; default: the server")
    run.add_argument("--boot-dir", type=Path, help="folder with the boot's marks and its fault")
    run.add_argument("--gpu-mode", choices=[str(mode) for mode in GpuMode], default="auto")
    run.add_argument(
        "--registry-auth",
        choices=("none", "google"),
        default="none",
        help="google: Google's registries are shown the machine's own access token",
    )
    run.add_argument("--metadata-url", default=DEFAULT_URL, metavar="URL")


def _run(arguments: argparse.Namespace) -> int:
    state_dir: Path = arguments.state_dir
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = _hold_lock(state_dir, arguments.lock_fd)
    if lock is None:
        _say(f"{state_dir}: another agent runs here. Wait for its end.")
        return REFUSED
    _hide_memory()
    over, ending = threading.Event(), threading.Event()
    lent = arguments.identity == "google"
    _obey_signals(over, ending if lent else over)
    socket = _engine_socket(arguments.engine)
    if socket is not None:
        engine.import_early()
    metadata = Metadata(arguments.metadata_url)
    life = Life(_instance(arguments, metadata, socket), over)
    _end_in_time(life, over, arguments.max_life)
    if lent:
        _watch_owner(life, metadata, ending, over)
    try:
        return _live(arguments, metadata, life, over)
    except (TurnedAway, Unanswered, NoProof) as error:
        _say(f"enrolment: {error}")
        return REFUSED


def _live(
    arguments: argparse.Namespace, metadata: Metadata, life: Life, over: threading.Event
) -> int:
    """Enrol, then live one attempt after the other, usually one."""
    nonce = secrets.token_hex(16)
    facts = _facts(arguments, metadata)
    enrolled: Enrolled | None = _enrol(arguments, metadata, nonce, facts, over)
    while enrolled is not None:
        reason = life.live(enrolled, facts)
        if reason is not None:
            _say(reason)
            return REFUSED
        if enrolled.work.keep_warm_s <= 0 or life.ending:
            return DONE
        life.clean()
        enrolled = _next(arguments, nonce, enrolled, over)
        facts = _facts(arguments, metadata)
    return DONE


def _instance(arguments: argparse.Namespace, metadata: Metadata, socket: str | None) -> Instance:
    return Instance(
        name=arguments.instance,
        server_url=arguments.server,
        control_plane=arguments.control_plane,
        state_dir=arguments.state_dir,
        socket=socket,
        lent=arguments.identity == "google",
        fault=boot_fault(arguments.boot_dir),
        gpu_mode=GpuMode(arguments.gpu_mode),
        cache_dir=arguments.cache_dir or _beside(arguments.state_dir),
        reachable=frozenset(arguments.reachable),
        login=lambda image: (
            google_login(image, metadata) if arguments.registry_auth == "google" else None
        ),
    )


def _beside(state_dir: Path) -> Path:
    """Return where data stays unless told: never in the folder that each attempt leaves empty."""
    return state_dir.absolute().with_name(f"{state_dir.name}-cache")


def _facts(arguments: argparse.Namespace, metadata: Metadata) -> Facts:
    kind = "process" if _engine_socket(arguments.engine) is None else "docker"
    started = Mark(name="agent_started", at=wall_clock())
    return replace(
        found_facts(kind, arguments.state_dir),
        address=_address(arguments, metadata, kind),
        marks=(*boot_marks(arguments.boot_dir), started),
    )


def _address(arguments: argparse.Namespace, metadata: Metadata, kind: str) -> str | None:
    """Return under which the other instances of a gang reach what will run here."""
    if arguments.identity == "google":
        with contextlib.suppress(NoMetadata):  # a run without a gang needs none
            return metadata.address()
        return None
    # On one machine containers know one another by name, in the network of their gang.
    return arguments.instance if kind == "docker" else "127.0.0.1"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")  # the provider keeps it in the instance's agent.log


def _hold_lock(state_dir: Path, inherited: int) -> int | None:
    """Hold the folder's lock for as long as this process lives; None: another one has it."""
    if inherited >= 0:
        os.set_inheritable(inherited, False)  # the command must not keep it alive
        return inherited
    number = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return number


def _hide_memory() -> None:
    """Keep other processes of this user from reading the token out of our memory."""
    with contextlib.suppress(OSError, AttributeError):  # not on this system: nothing to hide with
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _obey_signals(over: threading.Event, first: threading.Event) -> None:
    """Set `first` at the first signal to end, `over` at every later one."""

    def obey(*_: object) -> None:
        (over if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, obey)


def _end_in_time(life: Life, over: threading.Event, limit_s: float) -> None:
    """End everything when told to, or when the instance's life is over; in a thread."""

    def wait() -> None:
        told = over.wait(limit_s if limit_s > 0 else None)
        life.abandon("told to end" if told else "the instance's life is over")

    threading.Thread(target=wait, name="end", daemon=True).start()


def _watch_owner(
    life: Life, metadata: Metadata, ending: threading.Event, over: threading.Event
) -> None:
    """Let the attempt hear when the machine is taken back; in threads."""

    def preempted() -> None:
        life.take_back("the machine was taken back by its owner (preempted)", preempted=True)

    def shut_down() -> None:
        ending.wait()
        # The power button is pressed at a preemption too, maybe before the notice is heard.
        with contextlib.suppress(NoMetadata):
            if metadata.value(PREEMPTED).text.strip() == "TRUE":
                preempted()
        life.take_back("the machine is being shut down", preempted=False)

    threading.Thread(target=shut_down, name="shutdown", daemon=True).start()
    watch(metadata, preempted=preempted, over=over)
    watch_maintenance(metadata, announced=life.announce, over=over)


def _engine_socket(wanted: str) -> str | None:
    path = engine.socket_path(os.environ.get("DOCKER_HOST", ""))
    return path if wanted != "process" and engine.answers(path) else None


def _enrol(
    arguments: argparse.Namespace,
    metadata: Metadata,
    nonce: str,
    facts: Facts,
    over: threading.Event,
) -> Enrolled:
    enrolment = Enrolment(
        instance=arguments.instance,
        secret="",
        nonce=nonce,
        agent_version=VERSION,
        facts=facts,
    )
    if arguments.identity == "google":
        audience = arguments.audience or arguments.server.rstrip("/")
        token = google_token(metadata, audience, clock=elapsed_s, over=over)
        enrolment = replace(enrolment, identity_token=token)
    else:
        enrolment = replace(enrolment, secret=read_secret(arguments.secret_file))
    door = Door(arguments.server)
    try:
        enrolled = enrol(door, enrolment, clock=elapsed_s, over=over)
    finally:
        door.close()
    if arguments.secret_file is not None:
        # It was good once: what runs next shall not find it.
        arguments.secret_file.unlink(missing_ok=True)
    return enrolled


def _next(
    arguments: argparse.Namespace, nonce: str, before: Enrolled, over: threading.Event
) -> Enrolled | None:
    waiting = Waiting(
        message=NextWork(instance=arguments.instance, nonce=nonce),
        keep_warm_s=before.work.keep_warm_s,
        beat_s=before.heartbeat_s,
        clock=elapsed_s,
    )
    door = Door(arguments.server, token=before.token)
    try:
        return next_work(door, waiting, over)
    finally:
        door.close()


if __name__ == "__main__":
    exit_code = main()
    sys.stderr.flush()
    os._exit(exit_code)  # taking the interpreter down costs 50 ms for which the server waits
