"""Hold a tree of processes together: a program of its own, told by its standard input what to do.

Started as `python gcp_process_tree.py WORD…`; each line of input is a verb of `VERBS`. When the
input ends, and so when the simulator dies, everything ends: as a subreaper it is the parent of
every orphan below it. https://man7.org/linux/man-pages/man2/pr_set_child_subreaper.2const.html
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LOOK_S = 0.1  # how soon a command's end is told
VERBS = {
    "button": signal.SIGTERM,
    "hold": signal.SIGSTOP,
    "go": signal.SIGCONT,
}


def descendants() -> list[int]:
    """Return every process below this one."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = status.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def tell_all(number: int) -> list[int]:
    """Send a signal to every process below; return whom it reached."""
    reached = descendants()
    for pid in reached:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return reached


def reap() -> None:
    """Collect every child that ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass


def end_all() -> None:
    """Kill until nobody is left; a process may start another while it is looked for."""
    while tell_all(signal.SIGKILL):
        reap()


def main(words: list[str]) -> int:
    """Run the command until the input ends; return 0."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = None
    if words:
        command = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    button = False
    while not (button and not descendants()):
        if select.select([0], [], [], LOOK_S)[0]:
            line = os.read(0, 4096).decode()
            if not line:
                break
            for verb in line.split():
                tell_all(VERBS[verb])
                button = button or verb == "button"
        if command is not None and command.poll() is not None:
            os.write(1, f"command: exit status {command.returncode}\n".encode())
            command = None
        if command is None:
            reap()
    end_all()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
