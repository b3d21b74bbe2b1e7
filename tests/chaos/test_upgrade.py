"""A newer server comes while older ones work: both go on, and neither harms the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from demo.processes import StageError
from demo.server import Server
from tests.chaos.oracles import judge
from tests.chaos.stage import Stage, standing, wait_for

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cynthus", "webhook_server", "runner_images", "schemas")
STORES = Path("webhook_server/stores")
#: A migration that only adds: older servers neither read nor write what it makes.
EXPANDS = """
def upgrade() -> None:
    op.create_table("novelties", sa.Column("id", sa.Integer(), primary_key=True))
    {pause}
    op.add_column("runs", sa.Column("novelty", sa.Text(), nullable=True))
"""
MIGRATION = '''"""A change that a later version makes."""

import time
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

'''
PAUSE = """
    Path({begun!r}).touch()
    while not Path({may_end!r}).exists():
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with standing(tmp_path_factory.mktemp("upgrade"), roles=("all",)) as stage:
        yield stage


def a_later_version(folder: Path, *, oldest: str, pause: str = "") -> Path:
    """Copy today's programs, with a migration more; return where the copy is."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    schema = folder / STORES / "schema.py"
    text = schema.read_text("utf-8")
    for line, newer in (
        ('HEAD = "0001"', 'HEAD = "0002"'),
        ('OLDEST = "0001"', f'OLDEST = "{oldest}"'),
    ):
        assert line in text
        text = text.replace(line, newer)
    schema.write_text(text, "utf-8")
    migration = MIGRATION + EXPANDS.format(pause=pause.strip())
    (folder / STORES / "migrations/versions/v0002_later.py").write_text(migration, "utf-8")
    return folder


def of_version(stage: Stage, code: Path) -> Server:
    """Return a server beside the first one that runs the programs of a folder."""
    first = stage.replicas[0].server
    where = {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}  # not the folder that it starts in
    return Server(
        stage.programs,
        stage.folder / f"server-{code.name}",
        settings={**first.settings, **where},
        api_token=first.api_token,
    )


def version(stage: Stage) -> str:
    [row] = stage.rows("SELECT version_num FROM alembic_version")
    return str(row["version_num"])


def tables(stage: Stage) -> set[str]:
    return {row["tablename"] for row in stage.rows("SELECT tablename FROM pg_tables")}


def test_r6_old_and_new_servers_work_together_and_a_migration_is_whole_or_not_there(
    stage: Stage, tmp_path: Path
) -> None:
    [old] = stage.replicas
    wave = stage.wave(2)
    stage.wait_until_running(wave)
    begun, may_end = tmp_path / "begun", tmp_path / "may-end"
    pause = PAUSE.format(begun=str(begun), may_end=str(may_end))
    new = of_version(stage, a_later_version(tmp_path / "new", oldest="0001", pause=pause))

    killed = new.launch()
    wait_for("it migrates", begun.exists)
    killed.kill()  # in the middle
    wait_for("its session ends", lambda: not _in_transaction(stage))
    assert version(stage) == "0001"
    assert "novelties" not in tables(stage)

    may_end.touch()
    new.start()
    assert version(stage) == "0002"
    assert "novelties" in tables(stage)
    more = stage.wave(2)  # both take their part
    stage.wait_until_running(more)
    old.kill()
    stage.leases_run_out()
    old.start()  # today's program, on a database that is newer than it
    assert "database is newer than this server version=0002 own=0001" in old.log
    stage.crew.may_end.set()
    stage.wait_for_the_end(wave)
    stage.crew.may_end.set()
    stage.wait_for_the_end(more)
    judge(stage, wave)
    judge(stage, more)
    assert new.program is not None
    new.program.stop()


def _in_transaction(stage: Stage) -> list[object]:
    return stage.rows(
        "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        " AND datname = current_database()"
    )


def test_r15_a_server_that_is_too_old_for_the_database_refuses_to_start(
    stage: Stage, tmp_path: Path
) -> None:
    [old] = stage.replicas
    # The next version takes away what today's uses: its maker says so.
    with stage.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE server_state SET value = '0002' WHERE key = 'schema_oldest'"
        )
    late = replace(old.server, state=tmp_path / "late", port=0)
    with pytest.raises(StageError, match="made by a newer server"):
        late.start()
    assert late.program is not None
    assert late.program.process.returncode == 2
    assert old.ready() == (200, "ready\n")  # who was there before is asked to leave by people
