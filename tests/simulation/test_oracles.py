"""Each oracle finds the history that violates it, and says nothing of the one that does not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cynthus.codec import encode
from tests.builders import a_run, a_spec, an_attempt
from tests.simulation import oracles
from tests.simulation.ended import Ended
from tests.simulation.oracles import Oracle, violations
from tests.simulation.record import Happened, Record
from tests.simulation.scenario import Mode, Scenario, plain
from tests.simulation.scheduler import EPOCH
from tests.simulation.sources import ENTRY
from tests.simulation.worlds import lived
from webhook_server.runs.budget import BudgetLimits
from webhook_server.runs.model import State
from webhook_server.runs.pinning import bind

RUN = "arun00000001"
NAME = f"cynthus-{RUN}-1"
Row = tuple[Any, ...]


def a_fact(at: float, kind: str, name: str = NAME, detail: str = "") -> Happened:
    return Happened(at=at, replica="", kind=kind, name=name, detail=detail)


def a_change(at: float, **changes: Any) -> Row:
    """Make one change of the run as the database saw it."""
    given = {"version": 1, "state": "running", "outcome": None, "booked": 0}
    given |= {"repository": 7, "attempts": 1, "reason": ""} | changes
    return (at, RUN, *given.values())


def a_beat(at: float, beat: int, closed: int = 0, heard: str = "") -> Row:
    return (at, NAME, beat, closed, heard)


def a_history(
    *facts: Happened,
    seen: Iterable[Row] = (),
    beats: Iterable[Row] = (),
    scenario: Scenario | None = None,
    **changes: Any,
) -> Ended:
    """Make what is left of a history of one finished run with one attempt."""
    cost = changes.pop("cost", Decimal("0.1"))
    gone_at = EPOCH + timedelta(seconds=changes.pop("gone_s")) if "gone_s" in changes else None
    attempt = an_attempt()
    members = tuple(replace(member, gone_at=gone_at) for member in attempt.members)
    told = {name: changes.pop(name) for name in ("spec", "datasets") if name in changes}
    attempts = (replace(attempt, members=members),)
    run = a_run(State.FINISHED, cost_usd=cost, attempts=attempts, **told)
    doc = json.dumps(encode(run))
    rows: dict[str, list[Row]] = {
        "runs": [(RUN, "finished", "succeeded", str(cost), None, doc)],
        "instances": [(NAME, RUN, 1, None, None, 0)],
        "states": changes.pop("states", [(RUN, 1, "", "finished", "succeeded", "exit")]),
        "kept": [],
        "seen_runs": list(seen),
        "seen_kept": changes.pop("kept", []),
        "seen_instances": list(beats),
    }
    record = Record(log=list(facts), said=changes.pop("said", []))
    given = {"ended_at": 5000.0} | changes
    return Ended(scenario=scenario or Scenario(), record=record, rows=rows, **given)


BORN = a_fact(0, "machine.born", detail="1500")
END = a_change(100, version=2, state="finished", outcome="succeeded")
WORKS = a_fact(10, "work.begins", detail=f"{RUN} 1")
OTHER = a_fact(20, "work.begins", f"cynthus-{RUN}-2", f"{RUN} 2")
POOR = Scenario(budget=BudgetLimits(repository_usd=Decimal(3)))
SILENT = "no heartbeat since 12:00"

VIOLATED: dict[str, tuple[Oracle, Ended]] = {
    "a machine outlives its run": (
        oracles.i1_nothing_leaks,
        a_history(BORN, a_fact(701, "machine.gone"), seen=[a_change(0), END]),
    ),
    "a machine outlives its own limit": (
        oracles.i1b_machines_end_themselves,
        a_history(BORN, a_fact(1561, "machine.gone")),
    ),
    "a run lives on": (
        oracles.i2_one_end,
        a_history(seen=[a_change(0), END, a_change(101, version=3)]),
    ),
    "a run ends twice": (
        oracles.i2_one_end,
        a_history(seen=[END, a_change(101, state="finished", outcome="failed")]),
    ),
    "an end is told twice": (
        oracles.i2_one_end,
        a_history(seen=[END], states=[(RUN, 1, "", "finished", "succeeded", "exit")] * 2),
    ),
    "cost is hidden": (
        oracles.i6_cost,
        a_history(BORN, a_fact(1000, "machine.gone"), cost=Decimal("0.98")),
    ),
    "what is called gone lives on": (
        oracles.i6_gone_is_gone,
        a_history(BORN, a_fact(1000, "machine.gone"), gone_s=100.0),
    ),
    "data is looked up anew after the first machine": (
        oracles.i22_data_is_pinned_once,
        a_history(BORN, spec=a_spec(data=(ENTRY,)), datasets=(bind(ENTRY, f"{9000:040x}"),)),
    ),
    "a machine is ordered before the data is known": (
        oracles.i22_data_is_pinned_once,
        a_history(BORN, spec=a_spec(data=(ENTRY,))),
    ),
    "cost is invented": (oracles.i6_cost, a_history(cost=Decimal(50))),
    "two attempts execute": (oracles.i7_one_executor, a_history(WORKS, OTHER)),
    "nothing comes to its end": (oracles.i8_progress, a_history(is_over=False)),
    "machines without end": (
        oracles.i10_bounded,
        a_history(*(a_fact(n, "machine.born", f"{NAME}#{n}", "1500") for n in range(3))),
    ),
    "orders without end": (
        oracles.i10_bounded,
        a_history(*[a_fact(1, "cloud.create")] * (oracles.CREATES + 1)),
    ),
    "a heard run is given up": (
        oracles.i11_heard_is_kept,
        a_history(
            seen=[a_change(0), a_change(150, version=2, reason=SILENT)], beats=[a_beat(50, 1)]
        ),
    ),
    "a budget is exceeded": (
        oracles.i12_budget,
        a_history(seen=[a_change(0, attempts=0), a_change(1, booked=3_000_001)], scenario=POOR),
    ),
    "a budget is exceeded beside what waits": (
        oracles.i12_budget,
        a_history(
            seen=[a_change(0, attempts=0), a_change(2, booked=2_000_000)],
            kept=[(1.0, 1, NAME, 1_000_001)],
            scenario=POOR,
        ),
    ),
    "a version goes back": (
        oracles.i18_monotone,
        a_history(seen=[a_change(0, version=2), a_change(1, version=1)]),
    ),
    "a beat goes back": (
        oracles.i18_monotone,
        a_history(beats=[a_beat(0, 2), a_beat(1, 1)]),
    ),
    "what is closed opens": (
        oracles.i18_monotone,
        a_history(beats=[a_beat(0, 1, closed=1), a_beat(1, 1)]),
    ),
    "a machine at work is deleted": (
        oracles.i21_only_what_is_over_is_deleted,
        a_history(BORN, a_fact(50, "machine.deleted")),
    ),
    "an unknown machine is deleted at once": (
        oracles.i21_only_what_is_over_is_deleted,
        a_history(
            a_fact(0, "machine.born", "stray", "1500"), a_fact(60, "machine.deleted", "stray")
        ),
    ),
    "an exception nobody expects": (
        oracles.nothing_unexpected,
        a_history(said=[(1.0, "pass failed run=%s tries=%d", f"{RUN} 1 KeyError")]),
    ),
    "a fault of the simulation": (
        oracles.nothing_unexpected,
        a_history(faults=(ValueError("ours"),)),
    ),
}

KEPT: dict[str, tuple[Oracle, Ended]] = {
    "gone in time": (
        oracles.i1_nothing_leaks,
        a_history(BORN, a_fact(699, "machine.gone"), seen=[a_change(0), END]),
    ),
    "the cloud ends a little late": (
        oracles.i1b_machines_end_themselves,
        a_history(BORN, a_fact(1559, "machine.gone")),
    ),
    "one attempt after the other": (
        oracles.i7_one_executor,
        a_history(WORKS, a_fact(15, "work.ends", detail=f"{RUN} 1"), OTHER),
    ),
    "what waited was paid when it was ordered": (
        oracles.i12_budget,
        a_history(
            seen=[a_change(0, attempts=0), a_change(2, booked=2_000_000)],
            kept=[(1.0, 1, NAME, 2_000_000), (2.0, 1, NAME, 1_000_000)],
            scenario=POOR,
        ),
    ),
    "what is kept after an order counts for the next one": (
        oracles.i12_budget,
        a_history(
            seen=[a_change(0, attempts=0), a_change(2, booked=2_000_000)],
            kept=[(2.0, 2, NAME, 2_000_000)],
            scenario=POOR,
        ),
    ),
    "another repository has a budget of its own": (
        oracles.i12_budget,
        a_history(
            seen=[
                a_change(0, attempts=0),
                a_change(1, booked=2_000_000),
                (2, "arun00000002", *a_change(2, booked=2_000_000, repository=8)[2:]),
            ],
            scenario=POOR,
        ),
    ),
    "silent for long": (
        oracles.i11_heard_is_kept,
        a_history(
            seen=[a_change(0), a_change(171, version=2, reason=SILENT)], beats=[a_beat(50, 1)]
        ),
    ),
    "closed, then deleted": (
        oracles.i21_only_what_is_over_is_deleted,
        a_history(BORN, a_fact(50, "machine.deleted"), beats=[a_beat(49, 1, closed=1)]),
    ),
    "the database was away": (
        oracles.nothing_unexpected,
        a_history(said=[(1.0, "loop failed name=%s", "warm DatabaseUnavailable")]),
    ),
    "a history that never heals need not end": (
        oracles.i8_progress,
        a_history(is_over=False, scenario=Scenario(mode=Mode.SAFETY)),
    ),
}


@pytest.mark.parametrize("what", VIOLATED)
def test_what_must_never_happen_is_found(what: str) -> None:
    oracle, ended = VIOLATED[what]
    assert len(list(oracle(ended))) == 1


@pytest.mark.parametrize("what", KEPT)
def test_what_may_happen_is_let_pass(what: str) -> None:
    oracle, ended = KEPT[what]
    assert list(oracle(ended)) == []


def test_every_oracle_is_tried() -> None:
    assert {oracle for oracle, _ in VIOLATED.values()} == set(oracles.ORACLES)


def test_a_real_history_whose_cost_is_hidden_is_found() -> None:
    """The same machine as before, but its cost is cut to nothing: the oracle reads real rows."""
    ended = lived(plain())
    assert violations(ended) == []
    [row] = ended.rows["runs"]
    doc = json.loads(row[5]) | {"cost_usd": "0.000001"}
    rows = dict(ended.rows) | {"runs": [(*row[:5], json.dumps(doc))]}
    assert [one.invariant for one in violations(replace(ended, rows=rows))] == ["I6"]
