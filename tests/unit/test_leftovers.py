"""What a test leaves running is found by what it bears of the test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.processes import wait_until
from tests.leftovers import processes

WAYS: dict[str, dict[str, Any]] = {
    "its words": {"args": ["sh", "-c", "sleep 60; : FOLDER"]},
    "its environment": {"args": ["sleep", "60"], "env": {"PATH": "/usr/bin:/bin", "A": "FOLDER"}},
    "its folder": {"args": ["sleep", "60"], "cwd": "FOLDER"},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_process_is_known_by(tmp_path: Path, way: dict[str, Any]) -> None:
    folder = str(tmp_path)
    given = {name: _filled(value, folder) for name, value in way.items()}
    with subprocess.Popen(**given, start_new_session=True) as process:
        # Its words are there a moment after `exec`, and so after Popen has returned.
        wait_until(lambda: is_found(process.pid, "a mark of nobody", folder), "its being found")
        os.killpg(process.pid, 9)
    assert f"process {process.pid}" not in " ".join(processes(folder))


def is_found(pid: int, *marks: str) -> bool:
    return any(line.startswith(f"process {pid}:") for line in processes(*marks))


def _filled(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace("FOLDER", folder)
    if isinstance(value, list):
        return [_filled(one, folder) for one in value]
    return {name: _filled(one, folder) for name, one in value.items()}


def test_this_process_and_what_started_it_are_none_of_them() -> None:
    everything = {line.partition(":")[0] for line in processes("/")}
    assert not everything & {f"process {os.getpid()}", f"process {os.getppid()}"}
