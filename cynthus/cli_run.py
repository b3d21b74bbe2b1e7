"""`cynthus run`: build this folder's spec, run it here and now, without GitHub."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import queue
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from cynthus import specfile
from cynthus.cli_connection import no_room, writable
from cynthus.client import Client
from cynthus.embedded import BuildOrder, Embedded, build, environment_without
from cynthus.errors import CynthusError, Refused, UserError
from cynthus.interrupts import Interrupts
from cynthus.pulling import Puller, Standing, total_bytes
from cynthus.run_outputs import RunOutputs
from cynthus.run_report import LOG, SUMMARY, end_lines, markdown, own_name
from cynthus.screen import Screen, open_screen
from cynthus.spec import Spec
from cynthus.wire import EventKind, OutputView, RunEvent, RunRequest

DONE, RUN_FAILED, WRONG_INPUT, OUR_FAULT, INTERRUPTED = 0, 1, 2, 3, 130
# The agent ends a command when less than 256 MiB are free: below twice that none should begin.
LEAST_FREE_BYTES = 512 << 20
NEEDED = ("action", "webhook_server", "runner_images", "uvicorn", "sqlalchemy", "docker")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--spec", default="cynthus.yaml", help="the spec (default: cynthus.yaml)")
    parser.add_argument(
        "--out",
        default="cynthus-outputs",
        metavar="FOLDER",
        help="where the outputs go, in a folder named after the run (default: cynthus-outputs)",
    )
    parser.add_argument("--plain", action="store_true", help="plain lines, no live status")
    parser.add_argument(
        "--process", action="store_true", help="run as a plain process, without Docker"
    )


def run(args: argparse.Namespace) -> int:
    """Run the spec; exit 0 when it succeeded, 1 when not, 2 for wrong input, 130 after Ctrl-C."""
    _check_installed()
    job = _job(args)
    try:
        with Interrupts() as interrupts, _Scratch() as scratch:
            screen = open_screen(plain=args.plain)
            try:
                return _build_and_run(_Work(job, scratch, screen, interrupts))
            except KeyboardInterrupt:
                screen.say("stopped; nothing was left running")
                return INTERRUPTED
            finally:
                screen.close()
    finally:
        with contextlib.suppress(OSError):  # only when nothing was put there
            job.out.rmdir()


# ── what shall be run ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What the user asked for, read and checked."""

    folder: Path  # stands for the repository
    spec_path: str  # below it
    text: bytes
    spec: Spec
    out: Path
    process: bool
    secret_values: Mapping[str, str]


@dataclass(frozen=True)
class _Work:
    """What the steps share."""

    job: _Job
    scratch: Path
    screen: Screen
    interrupts: Interrupts


def _check_installed() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            f"run: should find the server and the agent beside the command line, found no"
            f" {', '.join(missing)}. Install them with `pip install 'cynthus[cli,server,agent]'`."
        )


def _job(args: argparse.Namespace) -> _Job:
    folder, spec_path = _placed(Path(args.spec))
    text = _read(folder / spec_path, args.spec)
    spec = specfile.parse(text, args.spec)
    return _Job(
        folder=folder,
        spec_path=spec_path,
        text=text,
        spec=spec,
        secret_values=_secret_values(spec.secrets),
        out=writable(Path(args.out), "--out"),
        process=args.process,
    )


def _placed(path: Path) -> tuple[Path, str]:
    """Return the folder that stands for the repository, and the spec's path in it.

    That is where the user stands, as it is the root for the Action; a spec elsewhere stands in
    its own.
    """
    here, there = Path.cwd().resolve(), path.parent.resolve()
    folder = here if there.is_relative_to(here) else there
    return folder, (there / path.name).relative_to(folder).as_posix()


def _read(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{shown}: should be a readable spec, found: {error.strerror}. "
            "Write one with `cynthus init`, or name yours with --spec."
        ) from error


def _secret_values(names: Sequence[str]) -> dict[str, str]:
    """Return the secrets' values, which this machine's user has in the environment."""
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"secrets: should be set in the environment for a run on this machine, found no"
            f" {', '.join(missing)}. Set each, such as `export {missing[0]}=…`, and run again."
        )
    return found


class _Scratch:
    """A folder of our own in the system's place for such, removed at the end."""

    def __enter__(self) -> Path:
        try:
            self._folder = tempfile.TemporaryDirectory(
                prefix="cynthus-run-", ignore_cleanup_errors=True
            )
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()}: should be a folder with room, found: {error.strerror}."
                " Make room, or name another folder in TMPDIR."
            ) from error
        free = shutil.disk_usage(self._folder.name).free
        if free < LEAST_FREE_BYTES:
            self._folder.cleanup()
            raise UserError(
                f"{tempfile.gettempdir()}: should have {LEAST_FREE_BYTES >> 20} MiB free for the"
                f" run, found {free >> 20} MiB. Make room, or name another folder in TMPDIR."
            )
        return Path(self._folder.name)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


# ── build, run, fetch ───────────────────────────────────────────────────────────────────────────


def _build_and_run(work: _Work) -> int:
    # It starts while the image is built: neither waits for the other.
    server = _embedded(work)
    forced = False
    try:
        image, code = _build(work)
        if image is None:
            return code
        return _run(work, image, server)
    except _Forced:
        forced = True
        work.screen.say("ending at once; outputs are not kept")
        return INTERRUPTED
    finally:
        if not server.stop(work.interrupts, now=forced):
            work.screen.say("the embedded server did not end by itself; what it ran was removed")


def _embedded(work: _Work) -> Embedded:
    try:
        return Embedded(work.scratch, work.job.secret_values)
    except OSError as error:
        raise UserError(
            f"{work.scratch}: should be a folder with room, found: {error.strerror}."
            " Make room, or name another folder in TMPDIR."
        ) from error


def _build(work: _Work) -> tuple[str | None, int]:
    job = work.job
    order = BuildOrder(
        folder=job.folder,
        spec=job.spec_path,
        bundles=work.scratch / "build",
        process=job.process,
        environment=environment_without(job.spec.secrets),
    )
    work.screen.say(f"building {job.spec.name}")
    built = build(order, work.screen.quote)
    if built.image is not None:
        return built.image, DONE
    work.screen.close()
    print(f"the build failed: {built.failure}", file=sys.stderr)
    return None, built.code if built.code in (RUN_FAILED, WRONG_INPUT) else OUR_FAULT


def _run(work: _Work, image: str, server: Embedded) -> int:
    client = server.client()
    run_id = client.submit(_request(work.job, image)).run_id
    seen = _follow(work, client, run_id, server)
    view = client.get(run_id)
    folder = work.job.out / view.id
    kept = _fetch(client, run_id, folder)
    summary = markdown(view, kept, seen.summary)
    (folder / own_name(SUMMARY, kept)).write_text(summary, "utf-8")
    work.screen.end(end_lines(view, kept, str(folder)))
    if view.outcome == "succeeded":
        return DONE
    return INTERRUPTED if seen.cancelled else RUN_FAILED


def _request(job: _Job, image: str) -> RunRequest:
    return RunRequest(
        repository_id=0,
        repository=f"local/{job.spec.name}",
        commit_sha=_commit(job),
        ref="",
        event="local",
        trigger=f"local/{secrets.token_hex(8)}",
        spec_path=job.spec_path,
        spec_text=job.text.decode("utf-8"),
        image=image,
    )


def _commit(job: _Job) -> str:
    """Return the commit checked out here; outside git a digest of the spec stands in for it."""
    words = ["git", "-C", str(job.folder), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError):
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return hashlib.sha1(job.text, usedforsecurity=False).hexdigest()


# ── following ───────────────────────────────────────────────────────────────────────────────────


class _Forced(Exception):  # noqa: N818 - reads as what happened
    """The user asked a second time."""


@dataclass
class _Seen:
    """What of the feed is wanted after its end."""

    summary: str = ""
    cancelled: bool = False


@dataclass(frozen=True)
class _Feed:
    """The run's events and the user's wishes, in the order in which they came.

    A signal handler may put something into this queue, and nothing else: its `put` is reentrant
    (https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put).
    """

    queue: queue.SimpleQueue[RunEvent | CynthusError | str] = field(
        default_factory=queue.SimpleQueue
    )

    def read(self, client: Client, run_id: str) -> None:
        """Put all events, then `end`, or why there is none."""
        try:
            for event in client.follow(run_id):
                self.queue.put(event)
            self.queue.put("end")
        except CynthusError as error:
            self.queue.put(error)


def _follow(work: _Work, client: Client, run_id: str, server: Embedded) -> _Seen:
    """Show the run to its end; the first Ctrl-C cancels it, and the end is still awaited."""
    feed, seen = _Feed(), _Seen()
    server.watch(feed.queue.put)
    threading.Thread(target=feed.read, args=(client, run_id), name="feed", daemon=True).start()
    with work.interrupts.told_to(lambda: feed.queue.put("interrupt")):
        while (news := feed.queue.get()) != "end":
            if isinstance(news, CynthusError):
                raise news
            if isinstance(news, RunEvent):
                _show(news, seen, work.screen)
            elif seen.cancelled:
                raise _Forced
            else:
                seen.cancelled = True
                work.screen.say(
                    "cancelling: the command is asked to stop, its outputs are kept;"
                    " Ctrl-C again ends it at once"
                )
                client.cancel(run_id)
    return seen


def _show(event: RunEvent, seen: _Seen, screen: Screen) -> None:
    if event.kind is EventKind.SUMMARY:
        seen.summary = str(event.body.get("text", ""))
    if event.body.get("state") != "building":  # that is over, when the server hears of the run
        screen.show(event)


# ── fetching ────────────────────────────────────────────────────────────────────────────────────


def _fetch(client: Client, run_id: str, folder: Path) -> tuple[OutputView, ...]:
    """Copy the outputs and the log to `folder`; return the outputs."""
    outputs = client.outputs(run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        items = RunOutputs(client, run_id).items()
        standing = Standing(total_bytes=total_bytes(items), total_files=len(items))
        Puller(folder).pull(items, standing)
        if standing.faults:
            raise Refused(standing.faults[0])
        with (folder / own_name(LOG, outputs)).open("wb") as log:
            log.writelines(client.log(run_id))
    except OSError as error:
        raise no_room(folder, "--out", error) from error
    return outputs
