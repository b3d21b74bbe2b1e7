"""A history of runs as JSON: what was decided of what was seen, and the rows that were stored."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cynthus.codec import decode, encode
from tests.engine.world import World
from tests.memory import fast_disk
from webhook_server.observe import observe
from webhook_server.reconcile import PARK_AFTER, Reconciler
from webhook_server.runs.commands import Decision
from webhook_server.runs.decide import decide
from webhook_server.runs.model import Run
from webhook_server.runs.observations import Observations
from webhook_server.runs.policy import Policy
from webhook_server.stores.run_claims import Claim

FOLDER = Path(__file__).parent
Step = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Recorder(Reconciler):
    """The loop, writing down every decision."""

    steps: list[Step] = field(default_factory=list)
    told_policies: list[Any] = field(default_factory=list)  # of a life: one

    def _decision(self, claim: Claim, now: datetime) -> Decision:
        if claim.failures >= PARK_AFTER:
            return super()._decision(claim, now)
        policy = self._policy(claim.run)
        seen = observe(self.eyes, claim.run, now)
        decision = decide(claim.run, seen, now, policy)
        if _moves(claim.run, decision):  # a pass that only waits would be most of every life
            asked = {"run": claim.run, "seen": seen, "now": now}
            self.told_policies[:] = [encode(policy)]
            self.steps.append({**encode(asked), "decided": spelt(decision)})
        return decision


def _moves(run: Run, decision: Decision) -> bool:
    same = dataclasses.replace(decision.run, cost_usd=run.cost_usd) == run
    return bool(decision.commands) or not same


class RecordedWorld(World):
    """The engine with a loop that writes down what it decides."""

    def __init__(self, url: str) -> None:
        self.steps: list[Step] = []
        self.seen_policies: list[Any] = []
        super().__init__(url)

    def step(self) -> float:
        parts = {f.name: getattr(self.reconciler, f.name) for f in dataclasses.fields(Reconciler)}
        recorder = Recorder(**parts, steps=self.steps, told_policies=self.seen_policies)
        return recorder.step()


def spelt(decision: Decision) -> Any:
    """Return a decision as JSON, its commands by their names."""
    told = encode(decision)
    for command, value in zip(decision.commands, told["commands"], strict=True):
        value["command"] = type(command).__name__
    return told


def recorded(life: Callable[[World], None]) -> dict[str, Any]:
    """Play a life; return its history."""
    with TemporaryDirectory(prefix="cynthus-life-", dir=fast_disk(FOLDER)) as folder:
        path = Path(folder) / "cynthus.db"
        world = RecordedWorld(f"sqlite:///{path}")
        try:
            life(world)
        finally:
            world.db.close()
        with closing(sqlite3.connect(path)) as database:
            rows = [line for line in database.iterdump() if _counts(line)]
    [policy] = world.seen_policies
    return {"policy": policy, "steps": _chained(world.steps), "database": rows}


def _chained(steps: list[Step]) -> list[Step]:
    """Leave a run out where it is what the step before decided."""
    last: dict[str, Any] = {}
    chained = []
    for step in steps:
        run = step["run"]
        is_last = last.get(run["id"]) == run
        chained.append({**step, "run": run["id"] if is_last else run})
        last[run["id"]] = step["decided"]["run"]
    return chained


def _unchained(steps: list[Step]) -> Iterator[Step]:
    last: dict[str, Any] = {}
    for step in steps:
        run = last[step["run"]] if isinstance(step["run"], str) else step["run"]
        yield {**step, "run": run}
        last[run["id"]] = step["decided"]["run"]


def _counts(line: str) -> bool:
    return line not in {"BEGIN TRANSACTION;", "COMMIT;"}


def replayed(history: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield what was decided, and what is decided today of what was seen then."""
    policy = decode(Policy, history["policy"])
    for step in _unchained(history["steps"]):
        run, seen = decode(Run, step["run"]), decode(Observations, step["seen"])
        yield step["decided"], spelt(decide(run, seen, decode(datetime, step["now"]), policy))


def differences(then: Any, now: Any, where: str = "") -> Iterator[str]:
    """Say where today's value differs; members that are new since then do not count."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name, value in then.items():
            yield from differences(value, now.get(name), f"{where}/{name}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, (before, today) in enumerate(zip(then, now, strict=True)):
            yield from differences(before, today, f"{where}/{number}")
    elif then != now:
        yield f"{where}: was {json.dumps(then)}, is {json.dumps(now)}"


def restored(history: dict[str, Any], path: Path) -> None:
    """Write a history's rows into a new SQLite file, with the tables that they were in."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript("\n".join(["BEGIN;", *history["database"], "COMMIT;"]))


def written(history: dict[str, Any]) -> str:
    """Return the text of a history's file: a line for each step and each row."""
    parts = []
    for name, value in history.items():
        lines = value if isinstance(value, list) else None
        told = [_line(one) for one in (lines if lines is not None else [value])]
        text = "[\n" + ",\n".join(told) + "\n]" if lines is not None else told[0]
        parts.append(f"{_line(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def histories(version: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the histories of a version, with their names."""
    for path in sorted((FOLDER / version).glob("*.json")):
        yield path.stem, json.loads(path.read_text("utf-8"))
