"""Libraries that the agent's Python lacks come from a lock: real pip, and a folder as index."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runner_images.agent.locked_python import AGE, Libraries, interpreter
from runner_images.agent.workload import CannotStart
from tests.action.world import write_wheel

GREETING = Libraries(modules=("cynthus_greeting",), extra="greeting", key="data")
LockOf = Callable[[str], bytes | None]


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of a wheel that a folder offers as an index does: https://peps.python.org/pep-0503/."""
    folder = tmp_path / "index" / "cynthus-greeting"
    folder.mkdir(parents=True)
    wheel = write_wheel(folder, "cynthus_greeting", "1.0", "TEXT = 'good morning'\n")
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_INDEX_URL", folder.parent.as_uri())
    monkeypatch.setenv("HOME", str(tmp_path))  # no settings of whoever runs the tests
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def locked(digest: str) -> LockOf:
    return lambda extra: f"cynthus-{extra}==1.0 --hash=sha256:{digest}\n".encode()


def never() -> bool:
    return False


def test_what_this_python_has_needs_no_environment(tmp_path: Path) -> None:
    assert interpreter(AGE, tmp_path / "cache", never) == sys.executable
    assert not (tmp_path / "cache").exists()


def test_what_it_lacks_is_installed_once_from_the_lock(digest: str, tmp_path: Path) -> None:
    python = interpreter(GREETING, tmp_path / "cache", never, locked(digest))
    words = [python, "-c", "import cynthus_greeting; print(cynthus_greeting.TEXT)"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env={}).stdout
    assert said == "good morning\n"
    made = Path(python).stat().st_ctime_ns
    (tmp_path / "index" / "cynthus-greeting" / "index.html").unlink()  # nobody is asked again
    assert interpreter(GREETING, tmp_path / "cache", never, locked(digest)) == python
    assert Path(python).stat().st_ctime_ns == made


def test_other_bytes_than_the_locked_ones_are_not_installed(digest: str, tmp_path: Path) -> None:
    other = digest[::-1]
    with pytest.raises(CannotStart, match="data: cynthus_greeting is not in this") as fault:
        interpreter(GREETING, tmp_path / "cache", never, locked(other))
    assert "Got        " + digest[:32] in str(fault.value)  # the line is cut, by its path's length
    assert fault.value.infrastructure
    assert not list((tmp_path / "cache").glob("greeting-*/bin"))


def test_an_agent_packed_without_the_lock_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"Install `cynthus\[greeting\]` there"):
        interpreter(GREETING, tmp_path, never, lambda _: None)


def test_a_stop_ends_the_installation_with_all_that_it_started(digest: str, tmp_path: Path) -> None:
    looks: list[int] = []

    def stopping() -> bool:
        looks.append(1)
        return len(looks) > 1  # the first look starts the wait

    with pytest.raises(CannotStart, match="data: stopped while cynthus_greeting") as fault:
        interpreter(GREETING, tmp_path / "cache", stopping, locked(digest))
    assert not fault.value.infrastructure
    left = b"\0-m\0venv\0" + os.fsencode(tmp_path)
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if left in _content(path)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def test_a_stop_is_heard_while_another_agent_installs(digest: str, tmp_path: Path) -> None:
    lock = locked(digest)("greeting") or b""
    name = f"greeting-{hashlib.sha256(lock).hexdigest()[:16]}.lock"
    stop = threading.Event()
    with (tmp_path / name).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        stop.set()
        with pytest.raises(CannotStart, match="stopped while"):
            interpreter(GREETING, tmp_path, stop.is_set, locked(digest))
