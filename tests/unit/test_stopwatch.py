"""What a stopwatch counts: all that passes, but for the time in which nobody could go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from demo.processes import wait_until
from tests.stopwatch import Stopwatch

ROOT = Path(__file__).parents[2]
# Begins, is stopped by the test and let go on, then says what it has counted.
COUNTS = """
import sys
from tests.stopwatch import Stopwatch
watch = Stopwatch()
print("begun", flush=True)
sys.stdin.readline()
print(watch.s, watch.wall_s)
"""
STOPPED_S = 0.5


def stands(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", COUNTS]
    with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: stands(process.pid), "its stop")
        stopped = Stopwatch()
        wait_until(lambda: stopped.wall_s > STOPPED_S, "half a second")
        os.kill(process.pid, signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.flush()
        counted_s, wall_s = map(float, process.stdout.readline().split())
    assert wall_s > STOPPED_S
    assert counted_s <= wall_s - STOPPED_S + 0.1  # from the last beat on: some hundredths


def test_it_counts_no_less_than_nothing_and_no_more_than_all() -> None:
    watch = Stopwatch()
    first, all_s = watch.s, watch.wall_s
    assert 0 <= first <= all_s
    assert watch.wall_s >= all_s
