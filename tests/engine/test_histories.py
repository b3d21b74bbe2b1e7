"""Random histories of the real loop and stores: whatever goes wrong, the promises are kept."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from cynthus.repository_policy import ApprovalLine, Limits, RepositoryPolicy
from cynthus.spec import Resources, Retry
from cynthus.wire import EventKind
from tests.builders import a_key, a_spec, seconds
from tests.engine.chaos import LATE, BadCloud, GovernedHistory, History
from tests.engine.test_money import with_budgets
from tests.engine.world import RUN, World
from webhook_server.runs.model import Cause, Outcome, Run
from webhook_server.runs.policy import CLOUD

# These few see all that is demanded below, in the suite's share of time; HISTORIES=200 is a night.
FEW = (0, 1, 2, 3, 4, 6, 7, 8)
SEEDS = tuple(range(int(os.environ["HISTORIES"]))) if "HISTORIES" in os.environ else FEW
# As a cloud, with waits cut down to what this world's faults need: a history takes two hours less.
POLICY = replace(
    CLOUD,
    boot_limit=timedelta(minutes=5),
    grace=LATE + seconds(60),
    visible_after=seconds(45),
    capacity_forgiven=timedelta(minutes=10),
)
HEALS = timedelta(minutes=25)
ENDS = timedelta(hours=3)
HOURLY = timedelta(hours=1)
GOVERNED = SEEDS[:4] if len(SEEDS) == len(FEW) else SEEDS
reached: Counter[str] = Counter()


def a_history(tmp_path: Path, seed: int, nodes: int) -> History:
    chance = random.Random(seed)
    world = World(f"sqlite:///{tmp_path}/cynthus.db", {"fake": POLICY})
    cloud = BadCloud(world, chance)
    world.providers["fake"] = cloud  # type: ignore[assignment]
    # Every fourth can pay for one whole life, and for little more.
    limit = Decimal(100 if seed % 4 == 3 else 1000) * nodes
    budgets = with_budgets(world, str(limit))
    spec = a_spec(resources=Resources(nodes=nodes), retry=Retry(3), outputs=())
    world.submit(spec=spec, key=a_key(trigger=f"push/{RUN}", repository_id=0))
    return History(world, cloud, chance, budgets)


#: A run of ten minutes may come to $9 here, its margins included.
RULES = (
    RepositoryPolicy(approval=ApprovalLine(cost_usd=Decimal(5)), limits=Limits(extend=HOURLY)),
    RepositoryPolicy(limits=Limits(max_cost_usd=Decimal(8), max_duration=HOURLY / 4)),
    RepositoryPolicy(approval=ApprovalLine(duration=HOURLY / 12)),
    RepositoryPolicy(limits=Limits(extend=HOURLY / 6, live_runs=1)),
)


@pytest.mark.parametrize("seed", GOVERNED)
def test_every_governed_history_keeps_the_promises_and_what_was_approved(
    tmp_path: Path, seed: int
) -> None:
    history = a_governed(tmp_path, seed)
    history.live(ENDS, HEALS)
    run = history.world.run()
    assert run.state.value == "finished", run.reason
    assert (run.hold, history.held_at) == (None, None)
    for begun in history.begun:
        assert begun.allowed, f"ordered while it waited for a person: {begun}"
    if run.approval is not None:
        spent = history.cloud.cost_usd(history.world.now)
        assert spent <= float(run.approval.cap_usd), "all attempts together cost what was approved"
    mark(run, history)
    reached.update(["held"] if history.was_held else [])
    reached.update(["approved"] if run.approval is not None else [])
    reached.update(["extended"] if any(one.more for one in run.extensions) else [])
    history.world.db.close()


def a_governed(tmp_path: Path, seed: int) -> GovernedHistory:
    chance = random.Random(1000 + seed)
    world = World(f"sqlite:///{tmp_path}/cynthus.db", {"fake": POLICY})
    cloud = BadCloud(world, chance)
    world.providers["fake"] = cloud  # type: ignore[assignment]
    budgets = with_budgets(world, "1000")
    world.govern(RULES[0])
    spec = a_spec(resources=Resources(max_duration=HOURLY / 6), retry=Retry(3), outputs=())
    world.submit(spec=spec, key=a_key(trigger=f"push/{RUN}"))
    return GovernedHistory(world, cloud, chance, budgets, rules=RULES)


def mark(run: Run, history: History) -> None:
    """Remember what was seen, so that a batch that never saw something is noticed."""
    for attempt in run.attempts:
        reached.update([f"lost: {attempt.reason.cause}" if attempt.reason and attempt.lost else ""])
        reached.update(["refused"] if attempt.refusal else [])
    reached.update(["histories", f"outcome: {run.outcome}", f"attempts: {len(run.attempts)}"])
    reached.update(["two at once"] if history.most_alive > len(run.attempts[0].members) else [])


@pytest.mark.case("P4", "R1", "R3", "R4")
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_history_keeps_the_promises(tmp_path: Path, seed: int, nodes: int) -> None:
    history = a_history(tmp_path, seed, nodes)
    world, cloud = history.world, history.cloud
    history.live(ENDS, HEALS)
    run = world.run()
    world.now += LATE  # what was on its way arrives
    cloud.tick()
    alive = [name for name, life in cloud.lives.items() if life.gone_at is None]
    assert run.state.value == "finished", run.reason
    assert alive == [], "nothing is leaked, also of what came late"
    states = world.events.after(RUN, 0, limit=500, kinds=[EventKind.STATE])
    assert [event.body["state"] for event in states].count("finished") == 1
    assert len(cloud.lives) <= 2 * nodes * len(run.attempts)
    spent = cloud.cost_usd(world.now)
    assert float(run.cost_usd) >= spent - 0.001, "no cost is hidden"
    if run.outcome is Outcome.SUCCEEDED:
        assert run.attempts[-1].exit is not None
        assert run.attempts[-1].exit.code == 0
    mark(run, history)
    world.db.close()


def test_the_histories_have_seen_what_they_are_made_for() -> None:
    if reached["histories"] < 2 * len(SEEDS) + len(GOVERNED):
        pytest.skip("only a part of the histories was run")
    wanted = {f"lost: {cause}" for cause in (Cause.PREEMPTED, Cause.SILENT, Cause.NO_CAPACITY)}
    wanted |= {"lost: host_error", "lost: boot", "refused", "two at once"}
    wanted |= {f"outcome: {o}" for o in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.OVER_BUDGET)}
    wanted |= {"held", "approved", "extended"}
    assert wanted <= set(reached), f"never seen: {wanted - set(reached)}"
