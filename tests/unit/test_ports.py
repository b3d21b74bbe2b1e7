"""Ports that are asked for: each process has its own, and none comes twice in a row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from demo.processes import PORTS, SHARE, free_port

ROOT = Path(__file__).parents[2]
# Asks for ports, and keeps its share until its input ends.
ASKS = """
import sys
from demo.processes import free_port
print(*(free_port() for _ in range(5)), flush=True)
sys.stdin.read()
"""


def test_no_two_processes_are_given_the_same_port() -> None:
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", ASKS]
    others = [
        subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(3)
    ]
    shares = [{(free_port() - PORTS.start) // SHARE}]
    for other in others:
        assert other.stdout is not None
        told = other.stdout.readline().split()
        shares.append({(int(port) - PORTS.start) // SHARE for port in told})
    for other in others:
        other.communicate()
    assert [len(share) for share in shares] == [1] * 4
    assert len(set.union(*shares)) == 4


def test_a_port_comes_again_after_many_others_only() -> None:
    given = [free_port() for _ in range(SHARE // 2)]
    assert len(set(given)) == len(given)
