"""What a run is compared with."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import NOON, SPEC_TEXT, a_draft, a_key
from webhook_server.baselines import Baselines
from webhook_server.runs.model import Decision, Origin, Outcome, Run, State
from webhook_server.stores.database import Database
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.run_store import RunStore

LEASE = timedelta(minutes=1)


@pytest.fixture
def baselines(db: Database) -> Baselines:
    return Baselines(
        runs=RunStore(db),
        events=EventStore(db),
        environments=EnvironmentStore(db),
    )


def finished(runs: RunStore, number: int, **changes: object) -> Run:
    """Keep a run that has ended, with a release unless the changes say otherwise."""
    draft = a_draft(id=f"arun{number:08}", key=a_key(trigger=f"push{number}"), spec_text=SPEC_TEXT)
    draft = replace(draft, ref=str(changes.pop("ref", draft.ref)))
    runs.accept(draft, arrived=None, token_id=None, now=NOON)
    [claim] = runs.claim(limit=1, lease=LEASE, now=NOON)
    given: dict[str, object] = {
        "state": State.FINISHED,
        "outcome": Outcome.SUCCEEDED,
        "finished_at": NOON,
        "release_url": f"https://github.test/r/{number}",
    }
    run = replace(claim.run, **(given | changes))  # type: ignore[arg-type]
    assert runs.save(claim, Decision(run=run), NOON)
    return run


def test_the_newest_released_run_of_the_default_branch_counts(baselines: Baselines) -> None:
    runs = baselines.runs
    finished(runs, 1)
    wanted = finished(runs, 2)
    finished(runs, 3, release_url=None)
    finished(runs, 4, outcome=Outcome.FAILED)
    finished(runs, 5, ref="refs/heads/other")
    finished(runs, 6, ref="refs/pull/3/head")
    finished(runs, 7, origin=Origin(overrides=(("resources.gpu", "l4"),)))
    finished(runs, 8, origin=Origin(fork=True))
    found = baselines.of(7, "digits", "main")
    assert found is not None
    assert found.run.id == wanted.id
    assert (found.metrics, found.lock) == ({}, None)


def test_there_may_be_none(baselines: Baselines) -> None:
    finished(baselines.runs, 1, release_url=None)
    assert baselines.of(7, "digits", "main") is None
    assert baselines.of(8, "digits", "main") is None
    assert baselines.of(7, "letters", "main") is None
