"""A server on SQLite whose file others have, nobody may write, or no lock can be had on."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import StageError, clean_environment, free_port
from tests.light_stage import light_stage
from tests.small_disk import small_disk

__all__ = ["small_disk"]  # a fixture


def test_r7_a_second_server_on_the_file_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with light_stage(tmp_path / "one", state=tmp_path / "state") as first:
        run_id = first.submit("echo alone")
        with (
            pytest.raises(StageError, match="should be served by one server at a time"),
            light_stage(
                tmp_path / "two",
                CYNTHUS_DATABASE_URL=f"sqlite:///{tmp_path / 'state' / 'cynthus.db'}",
            ),
        ):
            raise AssertionError("two servers on one file")
        assert first.end(run_id).outcome == "succeeded"


def test_r7_a_backup_that_holds_the_file_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    with light_stage(tmp_path) as stage:
        with contextlib.closing(
            sqlite3.connect(tmp_path / "state" / "cynthus.db", 60, isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            # Longer than a write waits: it is refused. (Behind another that waits it may outlast
            # the door's patience and be stored later: then it is known when it comes again.)
            assert stage.deliver(guid="while-it-is-held") == 503
            other.execute("ROLLBACK")
        assert stage.deliver(guid="afterwards") == 202
        assert stage.deliver(guid="while-it-is-held") == 202
        assert stage.end(stage.submit("echo on")).outcome == "succeeded"
        with contextlib.closing(
            sqlite3.connect(f"file:{tmp_path}/state/cynthus.db?mode=ro", uri=True)
        ) as other:
            kept = sorted(guid for (guid,) in other.execute("SELECT guid FROM deliveries"))
    assert kept == ["afterwards", "while-it-is-held"]


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let a file system be read only: a full quota and an ailing disk look like this."""
    for option in ("remount,ro", "remount,rw"):
        words = ["mount", "-o", option, str(place)]
        if option.endswith("rw"):
            yield
        subprocess.run(words, check=True, capture_output=True)


def serve(state: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a server that will not come up; return how it ended."""
    environment = clean_environment(
        CYNTHUS_STATE_DIR=str(state), CYNTHUS_PORT=str(free_port()), **settings
    )
    words = [sys.executable, "-m", "cynthus", "serve"]
    return subprocess.run(
        words, capture_output=True, text=True, env=environment, timeout=120, check=False
    )


def test_r7_a_database_that_nobody_may_write_ends_the_start_with_a_sentence(
    tmp_path: Path, small_disk: Path
) -> None:

    state = small_disk / "state"
    state.mkdir()
    with read_only(small_disk):
        ended = serve(tmp_path / "state", CYNTHUS_DATABASE_URL=f"sqlite:///{state}/cynthus.db")
    assert ended.returncode in (2, 3), ended.stderr
    assert "Traceback" not in ended.stderr
    assert str(state / "cynthus.db") in ended.stderr
