"""A program that several processes share starts once and ends with the last of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Program, Programs, wait_until
from demo.shared_program import SharedProgram

# Another process that uses it, until its input ends.
ANOTHER = """
import sys
from pathlib import Path
from tests.unit.test_shared_program import Sleeper
Sleeper(Path(sys.argv[1])).program.use()
print("uses it", flush=True)
sys.stdin.read()
"""


class Sleeper:
    """`sleep` as the shared program: it answers while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = SharedProgram(folder, "sleep", self.answers, self.start)

    def start(self) -> Program:
        program = Programs(self.folder).start("sleep", ["sleep", "600"])
        with (self.folder / "pids").open("a") as pids:
            pids.write(f"{program.process.pid}\n")
        return program

    @property
    def pids(self) -> list[int]:
        found = self.folder / "pids"
        return [int(line) for line in found.read_text().split()] if found.exists() else []

    def answers(self) -> bool:
        return any(map(runs, self.pids))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Sleeper]:
    sleeper = Sleeper(tmp_path)
    yield sleeper
    for pid in filter(runs, sleeper.pids):
        os.kill(pid, signal.SIGKILL)


def test_it_starts_with_the_first_use_and_ends_with_the_last(sleeper: Sleeper) -> None:
    first, second = sleeper.program.use(), sleeper.program.use()
    assert len(sleeper.pids) == 1
    first.stop()
    first.stop()  # counts once
    assert sleeper.answers()
    second.stop()
    assert not sleeper.answers()
    sleeper.program.use().stop()
    assert len(sleeper.pids) == 2
    assert not sleeper.answers()


def test_it_outlives_who_started_it_and_a_killed_user_does_not_keep_it(sleeper: Sleeper) -> None:
    words = [sys.executable, "-c", ANOTHER, str(sleeper.folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as another:
        assert another.stdout is not None
        assert another.stdout.readline() == b"uses it\n"
        mine = sleeper.program.use()
        another.kill()
    assert sleeper.answers()
    assert len(sleeper.pids) == 1
    mine.stop()
    wait_until(lambda: not sleeper.answers(), "its end")


def test_one_that_answers_already_is_never_ended(sleeper: Sleeper) -> None:
    theirs = sleeper.start()
    sleeper.program.use().stop()
    assert theirs.running
    theirs.stop()


def test_a_number_that_belongs_to_another_program_now_is_left_alone(sleeper: Sleeper) -> None:
    use = sleeper.program.use()
    (sleeper.folder / "started").write_text(str(os.getpid()))
    use.stop()
    assert sleeper.answers()
