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
from pathlib import Path

from cynthus.wire import Enrolled, Enrolment, Facts, Work
from runner_images.agent import VERSION, engine
from runner_images.agent.clock import elapsed_s, wall_clock
from runner_images.agent.door import Door, TurnedAway, Unanswered
from runner_images.agent.masking import Masks
from runner_images.agent.outbox import Outbox
from runner_images.agent.outputs import Collector, Limits
from runner_images.agent.sampling import found_facts
from runner_images.agent.supervise import Attempt, Surroundings, Watched
from runner_images.agent.uplink import Orders, Times, Uplink, enrol

DONE, REFUSED, WRONG_USE, FAILED = 0, 1, 2, 3
PR_SET_DUMPABLE = 4  # https://man7.org/linux/man-pages/man2/prctl.2.html


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; the exit code is for whoever started the agent."""
    arguments = _parser().parse_args(words)
    if arguments.verb == "poll":
        _say(
            "agent poll: registered nodes are not part of this version. "
            "Use `agent run`, which the server's providers start."
        )
        return WRONG_USE
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
        "--secret-file", required=True, type=Path, help="file with the enrolment secret"
    )
    run.add_argument(
        "--state-dir", required=True, type=Path, help="folder for this instance's files"
    )
    run.add_argument("--engine", choices=("auto", "docker", "process"), default="auto")
    run.add_argument("--control-plane", default="", help="id put on every container")
    run.add_argument("--max-life", type=float, default=0.0, help="seconds until everything ends")
    run.add_argument("--lock-fd", type=int, default=-1, help=argparse.SUPPRESS)
    verbs.add_parser("poll", help="ask for work as a registered node")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    state_dir: Path = arguments.state_dir
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = _hold_lock(state_dir, arguments.lock_fd)
    if lock is None:
        _say(f"{state_dir}: another agent runs here. Wait for its end.")
        return REFUSED
    _hide_memory()
    over = threading.Event()
    _obey_signals(over)
    socket = _engine_socket(arguments.engine)
    if socket is not None:
        engine.import_early()
    facts = found_facts("process" if socket is None else "docker", state_dir)
    door = Door(arguments.server)
    try:
        enrolled = _enrol(door, arguments, facts, over)
    except (TurnedAway, Unanswered) as error:
        _say(f"enrolment: {error}")
        return REFUSED
    finally:
        door.close()
    return _Life(arguments, facts, socket).live(enrolled, over)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")  # the provider keeps it in the instance's agent.log


def _hold_lock(state_dir: Path, inherited: int) -> int | None:
    """Hold the folder's lock for as long as this process lives; None: another one has it."""
    if inherited >= 0:
        os.set_inheritable(inherited, False)  # the command must not keep it alive
        return inherited
    number = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def _obey_signals(over: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())


def _engine_socket(wanted: str) -> str | None:
    path = engine.socket_path(os.environ.get("DOCKER_HOST", ""))
    return path if wanted != "process" and engine.answers(path) else None


def _enrol(
    door: Door, arguments: argparse.Namespace, facts: Facts, over: threading.Event
) -> Enrolled:
    secret_file: Path = arguments.secret_file
    try:
        secret = secret_file.read_text("utf-8").strip()
    except OSError as error:
        raise TurnedAway(0, f"{secret_file}: should hold the secret: {error.strerror}") from error
    enrolment = Enrolment(
        instance=arguments.instance,
        secret=secret,
        nonce=secrets.token_hex(16),
        agent_version=VERSION,
        facts=facts,
    )
    enrolled = enrol(door, enrolment, clock=elapsed_s, over=over)
    secret_file.unlink(missing_ok=True)  # it was good once: what runs next shall not find it
    return enrolled


class _Life:
    """The parts of one attempt, put together."""

    def __init__(self, arguments: argparse.Namespace, facts: Facts, socket: str | None) -> None:
        self._arguments = arguments
        self._facts = facts
        self._socket = socket

    def live(self, enrolled: Enrolled, over: threading.Event) -> int:
        work = enrolled.work
        state_dir: Path = self._arguments.state_dir
        masks = Masks([*work.secrets.values(), enrolled.token])
        outbox = Outbox(
            state_dir / "outbox.jsonl", log_limit_bytes=work.log_limit_bytes, now=wall_clock
        )
        attempt: Attempt | None = None

        def stop(reason: str) -> None:
            if attempt is not None:
                attempt.stop(reason)

        def abandon(reason: str) -> None:
            if attempt is not None:
                attempt.abandon(reason)

        uplink = Uplink(
            Door(self._arguments.server, token=enrolled.token),
            outbox,
            Orders(stop=stop, over=abandon, mask=masks.add),
            Times(beat_s=enrolled.heartbeat_s, clock=elapsed_s, now=wall_clock),
        )
        workload = self._workload(work)
        collector = Collector(
            Door(self._arguments.server, token=enrolled.token),
            masks,
            Limits(files=work.output_limit_files, total_bytes=work.output_limit_bytes),
            spool=state_dir,
            over=over,
        )
        around = Surroundings(
            uplink=uplink,
            outbox=outbox,
            masks=masks,
            clock=elapsed_s,
            state_dir=state_dir,
            collect=collector.collect,
        )
        attempt = Attempt(work, workload, around, over)
        threading.Thread(target=uplink.run, name="uplink", daemon=True).start()
        threading.Thread(target=self._end_when_told, args=(over, attempt), daemon=True).start()
        reason = attempt.run()
        uplink.close()
        outbox.close()
        if reason is not None:
            _say(reason)
        return DONE if reason is None else REFUSED

    def _end_when_told(self, over: threading.Event, attempt: Attempt) -> None:
        """End the attempt on a signal, or when the instance's life is over."""
        limit_s: float = self._arguments.max_life
        told = over.wait(limit_s if limit_s > 0 else None)
        attempt.abandon("told to end" if told else "the instance's life is over")

    def _workload(self, work: Work) -> Watched:
        if work.image.startswith("file://"):
            return self._process(work)
        from runner_images.agent.container import Container, Place

        place = Place(
            socket=self._socket or "",
            instance=self._arguments.instance,
            control_plane=self._arguments.control_plane,
            state_dir=self._arguments.state_dir,
        )
        return Container(work, self._facts, place)

    def _process(self, work: Work) -> Watched:
        from runner_images.agent.process import Process

        workload = Process(
            work,
            self._facts,
            instance=self._arguments.instance,
            folder=self._arguments.state_dir,
        )
        why = "no Docker engine: " if self._socket is None else ""
        workload.notices.append(f"{why}ran as a plain process without isolation")
        return workload


if __name__ == "__main__":
    exit_code = main()
    sys.stderr.flush()
    os._exit(exit_code)  # taking the interpreter down costs 50 ms for which the server waits
