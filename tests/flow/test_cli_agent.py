"""`cynthus agent` becomes the agent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def agent(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cynthus", "agent", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_polling_says_plainly_that_it_is_not_there_yet() -> None:
    done = agent("poll")
    assert done.returncode == 2
    assert "registered nodes are not part of this version" in done.stderr


def test_running_takes_the_agents_own_words(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    words = ("--server", "http://127.0.0.1:9", "--instance", "x", "--secret-file", absent)
    done = agent("run", *words, "--state-dir", str(tmp_path))
    assert done.returncode == 1
    assert f"{absent}: should hold the secret" in done.stderr
