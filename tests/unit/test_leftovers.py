"""What a test leaves running is found by what it bears of the test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

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
        found = [line.partition(":")[0] for line in processes("a mark of nobody", folder)]
        os.killpg(process.pid, 9)
    assert f"process {process.pid}" in found
    assert f"process {process.pid}" not in " ".join(processes(folder))


def _filled(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace("FOLDER", folder)
    if isinstance(value, list):
        return [_filled(one, folder) for one in value]
    return {name: _filled(one, folder) for name, one in value.items()}


def test_this_process_and_what_started_it_are_none_of_them() -> None:
    everything = {line.partition(":")[0] for line in processes("/")}
    assert not everything & {f"process {os.getpid()}", f"process {os.getppid()}"}
