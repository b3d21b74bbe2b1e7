"""Yesterday's database is put in place of today's: the outside is not harmed by what it forgot."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.chaos.oracles import CONCLUSIONS, check_runs, judge, left_in_cloud
from tests.chaos.stage import Stage, standing, wait_for


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with standing(tmp_path_factory.mktemp("restore"), roles=("all",)) as stage:
        yield stage


def dumped(stage: Stage, path: Path) -> None:
    """Save the whole database as its operators do."""
    words = [stage.postgres.programs / "pg_dump", "--clean", "--if-exists", "--file", path]
    subprocess.run([*words, _address(stage)], check=True, capture_output=True, timeout=120)


def restored(stage: Stage, path: Path) -> None:
    """Put a saved database in place of what is there now."""
    words = [stage.postgres.programs / "psql", "--quiet", "--set", "ON_ERROR_STOP=1"]
    words += ["--single-transaction", "--file", path]
    subprocess.run([*words, _address(stage)], check=True, capture_output=True, timeout=120)


def _address(stage: Stage) -> str:
    address = make_url(stage.database_url).set(drivername="postgresql")
    return address.render_as_string(hide_password=False)


@pytest.mark.long
def test_p13_a_restored_database_ends_what_it_knows_and_spares_what_it_does_not(
    stage: Stage, tmp_path: Path
) -> None:
    [server] = stage.replicas
    known = stage.wave(2)
    stage.wait_until_running(known)
    dumped(stage, tmp_path / "yesterday.sql")
    stage.let_go(known)  # they ended, were shown and are gone from the cloud since
    judge(stage, known)
    shown = concluded(stage, known.commit)
    unknown = stage.wave(2)
    stage.wait_until_running(unknown)

    server.kill()
    restored(stage, tmp_path / "yesterday.sql")
    server.start()

    # It believes that they run: no agent, no instance, and their attempts are to be repeated.
    stage.crew.may_end.set()
    stage.wait_for_the_end(known)
    assert {row["outcome"] for row in stage.rows("SELECT outcome FROM runs")} == {"succeeded"}
    assert concluded(stage, known.commit) == shown  # each is the one it was, and none is new
    # Two of two are more than a fifth: they are reported, and left to people.
    assert list(left_in_cloud(unknown.run_ids, stage.cloud.sim("GET", "/instances")))
    wait_for("they are reported", lambda: "unknown instance seen" in server.log)
    assert "unknown instance deleted" not in server.log


def concluded(stage: Stage, commit: str) -> dict[str, list[tuple[str, str]]]:
    """Return how each run's check runs stand on GitHub."""
    found: dict[str, list[tuple[str, str]]] = {}
    for check in check_runs(stage, commit):
        found.setdefault(check["external_id"], []).append((check["status"], check["conclusion"]))
    assert {outcome for several in found.values() for _, outcome in several} == {
        CONCLUSIONS["succeeded"]
    }
    return found
