"""What a run is compared with."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from cynthus.grammar import gate
from tests.builders import NOON, SPEC_TEXT, a_draft, a_key, a_spec, an_attempt
from webhook_server.baselines import Baselines
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Origin, Outcome, Run, State
from webhook_server.stores.database import Database
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.tables import instances

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
        "attempts": (an_attempt(names=(f"cynthus-{number}",), gone_at=NOON, ended_at=NOON),),
        "release_url": f"https://github.test/r/{number}",
    }
    run = replace(claim.run, **(given | changes))  # type: ignore[arg-type]
    assert runs.save(claim, Decision(run=run), NOON)
    return run


def told(db: Database, run: Run, metrics: dict[str, float]) -> None:
    """Let the run's agent have told these last values."""
    counts = {"kinds": {}, "metrics": metrics}
    query = update(instances).where(instances.c.run_id == run.id).values(counts=counts)
    db.write(lambda connection: connection.execute(query))


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


def test_gates_are_judged_by_the_last_values_and_look_up_a_baseline_only_if_they_name_one(
    baselines: Baselines, db: Database
) -> None:
    base = finished(baselines.runs, 1)
    told(db, base, {"accuracy": 0.9})
    run = finished(baselines.runs, 2, spec=a_spec(gate=(gate("accuracy >= baseline"),)))
    told(db, run, {"accuracy": 0.95})
    # The run itself has a release by now, as any finished one here: it is its own baseline.
    seen = baselines.gate_seen(replace(run, default_branch="main"))
    assert seen.metrics == {"accuracy": 0.95}
    assert seen.baseline_run == run.id
    plain = replace(run, spec=a_spec(gate=(gate("accuracy >= 0.5"),)))
    assert baselines.gate_seen(plain).baseline is None


def test_there_may_be_none(baselines: Baselines) -> None:
    finished(baselines.runs, 1, release_url=None)
    assert baselines.of(7, "digits", "main") is None
    assert baselines.of(8, "digits", "main") is None
    assert baselines.of(7, "letters", "main") is None
