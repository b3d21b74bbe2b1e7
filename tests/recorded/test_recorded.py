"""Runs that earlier versions left: decided alike today, and readable as they were stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import NOON
from tests.recorded.history import FOLDER, differences, histories, recorded, replayed, restored
from tests.recorded.lives import LIVES
from webhook_server.runs.model import State
from webhook_server.stores.database import Database
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.run_store import RunStore

VERSIONS = sorted(path.name for path in FOLDER.iterdir() if path.name[0].isdigit())
#: Decisions that were meant to change: (version, history, member) with the reason.
MEANT: dict[tuple[str, str, str], str] = {}


def everything() -> list[Any]:
    return [
        pytest.param(version, name, history, id=f"{version}-{name}")
        for version in VERSIONS
        for name, history in histories(version)
    ]


@pytest.mark.parametrize(("version", "name", "history"), everything())
def test_what_was_decided_then_is_decided_today(
    version: str, name: str, history: dict[str, Any]
) -> None:
    found = [
        difference
        for then, now in replayed(history)
        for difference in differences(then, now)
        if (version, name, difference.partition(":")[0]) not in MEANT
    ]
    assert found == []
    assert len(history["steps"]) > 1 or name == "over_the_months_budget"


@pytest.mark.parametrize(("version", "name", "history"), everything())
def test_what_was_stored_then_is_read_today(
    version: str, name: str, history: dict[str, Any], tmp_path: Path
) -> None:
    del version, name
    restored(history, tmp_path / "cynthus.db")
    database = Database(f"sqlite:///{tmp_path}/cynthus.db", now=lambda: NOON)
    try:
        database.migrate()
        runs, instances = RunStore(database), InstanceStore(database)
        rows = runs.list(repository_id=None, limit=50, before=None)
        assert rows
        for row in rows:
            run = runs.get(row.id)
            assert run is not None
            assert (run.state, run.outcome) == (row.state, row.outcome)
            assert row.state is State.FINISHED, f"{row.id}: {row.reason}"
            names = [member.name for attempt in run.attempts for member in attempt.members]
            assert {one.name for one in instances.rows(names)} == set(names)
            assert runs.wishes(row.id) is not None
        assert runs.next_due(NOON) is None
    finally:
        database.close()


def test_every_kind_of_life_is_recorded() -> None:
    for version in VERSIONS[-1:]:
        assert {name for name, _ in histories(version)} == set(LIVES)


def test_a_decision_that_changed_is_found() -> None:
    history = recorded(LIVES["failed"])
    history["steps"][-1]["decided"]["run"]["outcome"] = "succeeded"
    found = [one for then, now in replayed(history) for one in differences(then, now)]
    assert found == ['/run/outcome: was "succeeded", is "failed"']
