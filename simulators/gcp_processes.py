"""Play instances as plain process trees of this host: without root, and without isolation.

User data cannot be carried out here as a machine would: it would write into this host and talk to
its systemd. Run is what is meant to run anywhere: a script, or the command that a cloud-config
names for this case in a comment `#process: COMMAND`. See docs/gcp_machines.md.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simulators.gcp_machines import Machine, Played, PlayError
from simulators.gcp_metadata import Issuers, Values
from simulators.gcp_metadata_server import MetadataServer

TREE_PROGRAM = Path(__file__).with_name("gcp_process_tree.py")
PATH = "/usr/local/bin:/usr/bin:/bin"
SEARCH = re.compile(r"^#process: *(.+)$", re.MULTILINE)
END_S = 10.0


def start_command(metadata: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the words to run and what is to be said about them; no words: nothing can be run."""
    attributes = metadata.get("instance", {}).get("attributes", {})
    user_data = str(attributes.get("user-data", ""))
    script = user_data if user_data.startswith("#!") else str(attributes.get("startup-script", ""))
    named = SEARCH.search(user_data)
    if named is not None:
        return ["/bin/sh", "-c", named[1]], f"runs what its user data names: {named[1]}"
    if script.startswith("#!"):
        interpreter = script.splitlines()[0][2:].split()
        return [*interpreter, "script"], "runs its script"
    return [], "its user data has neither a script nor a comment `#process: COMMAND`: nothing runs"


@dataclass
class _Life:
    machine: Machine
    values: Values
    server: MetadataServer
    process: subprocess.Popen[bytes]

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def say(self, verb: str) -> None:
        pipe = self.process.stdin
        if pipe is not None and self.running:
            pipe.write(f"{verb}\n".encode())
            pipe.flush()

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(END_S)
        self.values.close()
        self.server.close()


class Processes:
    """Process trees of this host."""

    isolated = False

    def __init__(self, state_dir: Path, reach: Sequence[int]) -> None:
        del reach  # every port of this host is in reach at the same address anyway
        self._folder = state_dir.resolve() / "machines"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lives: dict[str, _Life] = {}
        self._lock = threading.RLock()
        self._issuers = Issuers()

    def boot(self, machine: Machine) -> str:
        """Start its process tree, unless it runs."""
        with self._lock:
            life = self._lives.get(machine.name)
            if life is not None and life.running:
                return "127.0.0.1"
            if life is not None:
                life.end()
            self._lives[machine.name] = self._start(machine)
            return "127.0.0.1"

    def _start(self, machine: Machine) -> _Life:
        folder = self._folder / machine.name
        folder.mkdir(exist_ok=True)
        values = Values(dict(machine.metadata))
        listener = socket.create_server(("127.0.0.1", 0))
        server = MetadataServer(listener, values, self._issuers.of(machine.name))
        words, said = start_command(machine.metadata)
        if words[1:] == ["script"]:
            (folder / "script").write_text(_script(machine.metadata))
        host = f"127.0.0.1:{server.port}"
        with (folder / "serial").open("ab") as serial:
            serial.write(f"not a machine but processes of this host: {said}\n".encode())
            serial.flush()
            process = _start_tree(words, folder, host, serial)
        return _Life(machine, values, server, process)

    def state(self, name: str) -> Played:
        """Return up while its tree lives: the command begins at once."""
        life = self._lives.get(name)
        return Played.UP if life is not None and life.running else Played.OFF

    def write(self, name: str, path: str, value: object) -> None:
        """Set a metadata value."""
        life = self._lives.get(name)
        if life is not None:
            life.values.set(path, value)

    def sign_identity(self, sign: Callable[[str, str, str], str]) -> None:
        """Take who signs identity tokens."""
        self._issuers.sign = sign

    def issue_token(self, issue: Callable[[str], Mapping[str, Any]]) -> None:
        """Take who issues access tokens."""
        self._issuers.token = issue

    def soft_off(self, name: str) -> None:
        """Send SIGTERM to every process; it is off when all have ended."""
        self._say(name, "button")

    def power_off(self, name: str) -> None:
        """Kill every process."""
        with self._lock:
            life = self._lives.get(name)
            if life is not None:
                life.end()

    def freeze(self, name: str, *, frozen: bool) -> None:
        """Stop every process, or let them go on."""
        self._say(name, "hold" if frozen else "go")

    def _say(self, name: str, verb: str) -> None:
        with self._lock:
            life = self._lives.get(name)
            if life is not None:
                life.say(verb)

    def cut(self, name: str, *, cut: bool) -> None:
        """Have no cable of its own. Raises PlayError when it shall be pulled."""
        if cut:
            raise _none_of_its_own(name, "cable")

    def slow(self, name: str, kbit: int | None) -> None:
        """Have no cable of its own. Raises PlayError when it shall be slowed."""
        if kbit is not None:
            raise _none_of_its_own(name, "cable")

    def fill(self, name: str, *, full: bool) -> None:
        """Have no disk of its own. Raises PlayError when it shall be filled."""
        if full:
            raise _none_of_its_own(name, "disk")

    def serial(self, name: str) -> str:
        """Return what its processes wrote."""
        path = self._folder / name / "serial"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def remove(self, name: str) -> None:
        """End it and delete its folder."""
        self.power_off(name)
        with self._lock:
            self._lives.pop(name, None)
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def close(self) -> None:
        """Remove all."""
        for name in list(self._lives):
            self.remove(name)


def _start_tree(
    words: list[str], folder: Path, host: str, serial: IO[bytes]
) -> subprocess.Popen[bytes]:
    environment = {"PATH": PATH, "HOME": str(folder), "LANG": "C.UTF-8", "NO_PROXY": "127.0.0.1"}
    environment |= {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "GCE_METADATA_ROOT": host}
    return subprocess.Popen(
        [sys.executable, "-I", str(TREE_PROGRAM), *words],
        stdin=subprocess.PIPE,
        stdout=serial,
        stderr=serial,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def _script(metadata: Mapping[str, Any]) -> str:
    attributes = metadata["instance"]["attributes"]
    user_data = str(attributes.get("user-data", ""))
    return user_data if user_data.startswith("#!") else str(attributes["startup-script"])


def _none_of_its_own(name: str, what: str) -> PlayError:
    return PlayError(
        f"{name}: a machine of plain processes has no {what} of its own. "
        "Play machines in namespaces, as root: --machines namespaces."
    )
