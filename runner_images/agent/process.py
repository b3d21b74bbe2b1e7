"""Run one attempt's command as a plain process, where there is no Docker engine.

This is no isolation: the command runs as the agent's own user, with limits on what one process may
take. The supervisor says so to the user.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from cynthus.wire import Facts, Mark, Rendezvous, Work
from runner_images.agent.patterns import fixed_part, matches
from runner_images.agent.processes import cpu_and_memory, marked, start_ticks
from runner_images.agent.workload import (
    DATA_VARIABLE,
    FIRST_SIGNAL_CODE,
    INSTANCE_MARK,
    OUTPUTS_FOLDER,
    SUMMARY_LIMIT_BYTES,
    CannotStart,
    Ended,
    Found,
    Staged,
    Usage,
    arguments,
    check_driver,
    checkpoint_path,
    gang_variables,
)

READ_BYTES = 64 * 1024
END_POLL_S = 0.02  # how often the killed processes are counted
END_LIMIT_S = 5.0  # a killed process that stays longer hangs in the kernel
DRAIN_S = 2.0  # output still in the pipe when the command has ended
# What a command gets from the agent's own environment; everything else could be a secret.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SSL_CERT_FILE")


class Process:
    """One process group; the Workload without an engine."""

    def __init__(self, work: Work, facts: Facts, *, instance: str, folder: Path) -> None:
        self._work = work
        self._facts = facts
        self._instance = instance
        self._folder = folder
        self._workspace = folder / "workspace"
        self._summary = folder / "summary.md"
        self._data = folder / "data"
        self._with_data = False
        self._child: subprocess.Popen[bytes] | None = None
        self._ended: Ended | None = None
        self._out_of_memory = False
        self._gang: dict[str, str] = {}
        self.notices: list[str] = []
        self.marks: list[Mark] = []

    gpu_uuids: tuple[str, ...] = ()

    @property
    def checkpoint_folder(self) -> Path:
        """Return the folder in the workspace."""
        return self._workspace / checkpoint_path(self._work)

    # ── before ───────────────────────────────────────────────────────────────────────────────

    def prepare(self, stopping: Callable[[], bool]) -> None:
        """Copy the workspace; raises CannotStart."""
        del stopping  # a copy of source code takes milliseconds
        check_driver(self._work, self._facts)
        self._check_capacity()
        bundle = _bundle_folder(self._work.image)
        try:
            self._bin, source = _read_bundle(bundle)
            shutil.rmtree(self._workspace, ignore_errors=True)
            shutil.copytree(source, self._workspace, symlinks=True)
            for name in (OUTPUTS_FOLDER, checkpoint_path(self._work)):
                _check_real(self._workspace, name)
                (self._workspace / name).mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError, KeyError) as error:
            text = f"image {self._work.image}: cannot be used: {error}"
            raise CannotStart(text, infrastructure=False) from error

    def _check_capacity(self) -> None:
        have, work = self._facts, self._work
        if work.gpu_count > len(have.gpus) or (work.memory_bytes or 0) > have.memory_bytes:
            text = "resources: this instance has less memory or fewer GPUs than the run needs"
            raise CannotStart(text, infrastructure=True)

    def receive(self, data: tuple[Staged, ...]) -> None:
        """Link the data: below one folder by name, and in the workspace where it is mounted there.

        A process cannot be given mounts: `$CYNTHUS_DATA/<name>` is where it looks. Raises
        CannotStart.
        """
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir()
        self._with_data = bool(data)
        try:
            for one in data:
                (self._data / one.dataset.name).symlink_to(one.folder)
                below = one.dataset.mount.removeprefix("/workspace/")
                if below != one.dataset.mount:
                    link = self._workspace / below
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(one.folder)
        except OSError as error:
            raise CannotStart(f"data: cannot be linked: {error}", infrastructure=False) from error

    def meet(self, rendezvous: Rendezvous) -> None:
        """Learn where the gang meets: all its processes are on this machine."""
        self._gang = gang_variables(self._work, rendezvous.address)

    # ── while ────────────────────────────────────────────────────────────────────────────────

    def start(self, output: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Start the command in a session of its own."""
        environment = self._environment()
        path = environment["PATH"]
        words = arguments(self._work)
        if shutil.which(words[0], path=path) is None and "/" not in words[0]:
            raise CannotStart(f"command: no program {words[0]!r} on PATH", infrastructure=False)
        try:
            self._child = subprocess.Popen(
                ("sh", "-c", f'{self._limits()} exec "$@"', "sh", *words),
                cwd=self._workspace,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotStart(f"command: {error}", infrastructure=True) from error
        self._record(self._child.pid)
        threading.Thread(
            target=self._follow, args=(self._child, output, ended), name="output", daemon=True
        ).start()

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        path = kept.get("PATH", os.defpath)
        return {
            **kept,
            **self._work.env,
            **self._work.secrets,
            **self._gang,
            "PATH": f"{self._bin}{os.pathsep}{path}",
            "CYNTHUS_OUTPUTS": str(self._workspace / OUTPUTS_FOLDER),
            "CYNTHUS_CHECKPOINTS": str(self.checkpoint_folder),
            "CYNTHUS_SUMMARY": str(self._summary),
            **({DATA_VARIABLE: str(self._data)} if self._with_data else {}),
            INSTANCE_MARK: self._instance,
        }

    def _limits(self) -> str:
        """Return shell words that limit each process; POSIX units: KiB, and blocks of 512 bytes.

        Memory is limited as data (`-d`), since CUDA reserves far more address space than it uses.
        No limit on the number of processes: it would count all of this user's.
        """
        words = ["ulimit -c 0;"]
        if self._work.memory_bytes:
            words.append(f"ulimit -d {self._work.memory_bytes // 1024} 2>/dev/null || :;")
        if self._work.disk_bytes:
            words.append(f"ulimit -f {self._work.disk_bytes // 512} 2>/dev/null || :;")
        return " ".join(words)

    def _record(self, pid: int) -> None:
        """Say on disk what to kill, for whoever finds this folder after the agent's death."""
        record = {"pid": pid, "start_ticks": start_ticks(pid)}
        (self._folder / "process.json").write_text(json.dumps(record), "utf-8")

    def _follow(
        self,
        child: subprocess.Popen[bytes],
        output: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        stream = child.stdout
        assert stream is not None  # noqa: S101 - Popen was given a pipe
        reader = threading.Thread(target=_read, args=(stream, output), name="pipe", daemon=True)
        reader.start()
        try:
            code = child.wait()
            # What the command left running would hold the pipe open, and DONE means: nothing runs.
            self._end_group()
            reader.join(DRAIN_S)
            number = -code if code < 0 else None
            self._ended = Ended(
                code=FIRST_SIGNAL_CODE + number if number else code,
                signal=number
                or (code - FIRST_SIGNAL_CODE if FIRST_SIGNAL_CODE < code < 193 else None),  # noqa: PLR2004 - 128 + the last signal
                out_of_memory=self._out_of_memory,
            )
        finally:
            ended()

    def ending(self) -> Ended | None:
        """Return how the command ended, or None while it runs."""
        return self._ended

    def terminate(self) -> None:
        """Send SIGTERM to the group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to everything that carries this run's mark."""
        self._signal(signal.SIGKILL)
        self._end_group()

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)

    def _end_group(self) -> None:
        """Kill until nothing with our mark is left: a process may fork while it is killed."""
        began = time.monotonic()
        while time.monotonic() - began < END_LIMIT_S:
            left = [pid for pid in self._members() if pid != os.getpid()]
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(END_POLL_S)

    def _members(self) -> list[int]:
        session = self._child.pid if self._child else 0
        return marked(INSTANCE_MARK, self._instance, session=session)

    def usage(self) -> Usage:
        """Add up what the run's processes use; over the memory limit they are killed."""
        cpu_s, memory_bytes = cpu_and_memory(self._members())
        limit = self._work.memory_bytes
        if limit is not None and memory_bytes > limit:
            self._out_of_memory = True
            self.kill()
        return Usage(cpu_s=cpu_s, memory_bytes=memory_bytes, memory_limit_bytes=limit)

    def summary(self) -> bytes | None:
        """Return the first bytes of the summary file."""
        try:
            with _open_plain(self._summary) as file:
                return file.read(SUMMARY_LIMIT_BYTES)
        except OSError:
            return None

    # ── after ────────────────────────────────────────────────────────────────────────────────

    def outputs(self, patterns: tuple[str, ...]) -> Iterator[Found]:
        """Yield the outputs out of the workspace."""
        seen: set[str] = set()
        for pattern in patterns:
            found = False
            for path, fault in _below(self._workspace, fixed_part(pattern)):
                if not (matches(pattern, path) or fault == path):
                    continue
                found = True
                if path not in seen:
                    seen.add(path)
                    yield _looked_at(self._workspace, path)
            if not found and pattern not in seen:
                seen.add(pattern)
                yield Found(path=pattern, left_out="nothing was there when the command ended")

    def remove(self) -> None:
        """Leave no process and no workspace."""
        if self._child is not None:
            self.kill()
        shutil.rmtree(self._workspace, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)
        (self._folder / "process.json").unlink(missing_ok=True)


def _read(stream: BinaryIO, output: Callable[[bytes], None]) -> None:
    with stream:
        while data := os.read(stream.fileno(), READ_BYTES):
            output(data)


def _check_real(workspace: Path, path: str) -> None:
    """Refuse a folder that the commit made a link: what is put there is emptied first."""
    for place in (workspace / path, *(workspace / path).parents):
        if place == workspace:
            return
        if place.is_symlink():
            raise ValueError(f"{path}: should be a folder, found a symbolic link. Remove it.")


def _bundle_folder(image: str) -> Path:
    return Path(unquote(urlsplit(image).path))


def _read_bundle(bundle: Path) -> tuple[str, Path]:
    """Return the folder for PATH with the source folder.

    `bundle.json`: {"bin": "<absolute folder put first on PATH>", "workspace": "workspace"}.
    """
    found = json.loads((bundle / "bundle.json").read_text("utf-8"))
    return str(found["bin"]), bundle / str(found["workspace"])


def _below(workspace: Path, fixed: str) -> Iterator[tuple[str, str | None]]:
    """Yield every path at or below `fixed` that is no folder; links are never followed."""
    parts = fixed.split("/") if fixed else []
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        if (workspace / above).is_symlink():
            yield above, above
            return
    start = workspace / fixed
    if not os.path.lexists(start):
        return
    if start.is_symlink() or not start.is_dir():
        yield fixed, None
        return
    for folder, folders, files in os.walk(start):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted((*files, *links)):
            yield os.path.relpath(os.path.join(folder, name), workspace), None


def _looked_at(workspace: Path, path: str) -> Found:
    whole = workspace / path
    try:
        found = whole.lstat()
    except OSError as error:
        return Found(path=path, left_out=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return Found(path=path, left_out=_kind(found.st_mode))
    return Found(path=path, size_bytes=found.st_size, again=lambda: _open_plain(whole))


def _open_plain(path: Path) -> BinaryIO:
    """Open a regular file; a link, a pipe, a socket or a device is refused without waiting."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("no regular file")
    return os.fdopen(number, "rb")


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return name
    return "a device"
