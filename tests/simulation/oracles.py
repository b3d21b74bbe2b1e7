"""Say what a history did that must never happen: pure functions over what is left of it.

Each reads the log (what programs called and what the outside did by itself), and what the database
saw of its own rows. The numbers are those of the invariants that they check.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from cynthus.codec import decode
from tests.simulation.cloud import USD_PER_HOUR
from tests.simulation.ended import Ended
from tests.simulation.record import Happened
from tests.simulation.scenario import POLICY
from tests.simulation.scheduler import EPOCH
from webhook_server.runs.model import Run
from webhook_server.sweep import UNKNOWN_GRACE

LEAK_S = 600.0  # design: what exists is deleted within ten minutes of its end
SELF_END_S = 60.0  # a cloud ends a machine up to 30 s late
LIMIT_S = 7200.0  # runs here last minutes; boots, pulls and uploads have limits of minutes too
STRAY_S = 900.0  # a sweep sees it, waits five minutes, and each start of a replica waits anew
EARLY_S = 5.0  # between a clock's reading and its use
CREATES = 40  # of one name: one each ten seconds for a boot limit of five minutes, and a reserve
CALLS = 600  # of the cloud for one run


@dataclass(frozen=True, kw_only=True)
class Violation:
    """What must never happen, and did."""

    invariant: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Life:
    """One machine, as the cloud tells it."""

    uid: str
    born_at: float
    gone_at: float | None
    limit_s: float

    @property
    def name(self) -> str:
        """Return the name it was ordered under."""
        return self.uid.partition("#")[0]

    @property
    def run_id(self) -> str:
        """Return the run that ordered it; empty: nobody did."""
        return run_of(self.name)


def run_of(name: str) -> str:
    """Return the run that an instance's name tells; empty: it is none of ours."""
    parts = name.split("-")
    return parts[1] if parts[0] == "cynthus" else ""


class Seen(NamedTuple):
    """One change of a run, as the database saw it."""

    at: float
    id: str
    version: int
    state: str
    outcome: str | None
    booked: int
    repository: int
    attempts: int
    reason: str


Oracle = Callable[[Ended], Iterator[Violation]]
#: What a history left is read once for all oracles and marks.
_once = functools.lru_cache(maxsize=1)


# ── what is read ────────────────────────────────────────────────────────────────────────────────


def lives(log: Iterable[Happened]) -> list[Life]:
    """Return every machine that ever was."""
    born: dict[str, Happened] = {}
    gone: dict[str, float] = {}
    for one in log:
        if one.kind == "machine.born":
            born[one.name] = one
        elif one.kind == "machine.gone":
            gone[one.name] = one.at
    return [
        Life(uid=uid, born_at=one.at, gone_at=gone.get(uid), limit_s=float(one.detail))
        for uid, one in born.items()
    ]


@_once
def machines(ended: Ended) -> list[Life]:
    """Return every machine of a history."""
    return lives(ended.record.log)


@_once
def changes(ended: Ended) -> dict[str, list[Seen]]:
    """Return what became of each run, change by change."""
    found: dict[str, list[Seen]] = defaultdict(list)
    for row in ended.rows["seen_runs"]:
        seen = Seen(*row)
        found[seen.id].append(seen)
    return found


def finished_at(seen: Sequence[Seen]) -> float | None:
    """Return when a run was finished."""
    return next((one.at for one in seen if one.state == "finished"), None)


@_once
def runs(ended: Ended) -> dict[str, Run]:
    """Return the runs as they are at the end."""
    return {row[0]: decode(Run, json.loads(row[5])) for row in ended.rows["runs"]}


def seconds_of(moment: str) -> float:
    """Return a stored moment as virtual seconds."""
    return (datetime.fromisoformat(f"{moment}+00:00") - EPOCH).total_seconds()


# ── the invariants ──────────────────────────────────────────────────────────────────────────────


def i1_nothing_leaks(ended: Ended) -> Iterator[Violation]:
    """What exists belongs to an unfinished run, or is gone ten minutes after its end."""
    if not ended.heals:
        return
    ends = {run_id: finished_at(seen) for run_id, seen in changes(ended).items()}
    last_end = max((end or ended.ended_at for end in ends.values()), default=0.0)
    kept_s = max((one.warm_s for one in ended.scenario.wanted), default=0.0)
    for life in machines(ended):
        end = ends.get(life.run_id)
        if life.run_id and end is None:
            continue  # its run goes on
        # A warm machine may serve any later run of its repository, and wait again.
        end = last_end + kept_s if kept_s else (end or life.born_at)
        allowed = max(end, ended.scenario.heals_at) + (LEAK_S if life.run_id else STRAY_S)
        if (life.gone_at or ended.ended_at) > allowed:
            text = f"{life.uid} lives until {life.gone_at}, its run ended at {end:.1f}"
            yield Violation(invariant="I1", text=text)


def i1b_machines_end_themselves(ended: Ended) -> Iterator[Violation]:
    """No machine outlives its own limit, whoever lives to delete it."""
    for life in machines(ended):
        if (life.gone_at or ended.ended_at) - life.born_at > life.limit_s + SELF_END_S:
            yield Violation(invariant="I1b", text=f"{life.uid} outlives its {life.limit_s:.0f} s")
        if life.limit_s > LIMIT_S:
            yield Violation(invariant="I1b", text=f"{life.uid} may live {life.limit_s:.0f} s")


def i2_one_end(ended: Ended) -> Iterator[Violation]:
    """A run ends once, with one outcome, and stays as it ended."""
    for run_id, seen in changes(ended).items():
        ends = {(one.state, one.outcome) for one in seen if one.state == "finished"}
        after = seen[[one.state for one in seen].index("finished") :] if ends else []
        if len(ends) > 1 or any(one.state != "finished" for one in after):
            yield Violation(invariant="I2", text=f"{run_id} ends more than once: {sorted(ends)}")
        told = [row for row in ended.rows["states"] if row[0] == run_id and row[3] == "finished"]
        if len(told) > 1 or (ends and not told):
            yield Violation(invariant="I2", text=f"{run_id} tells its end {len(told)} times")
        if any(one.outcome and one.state != "finished" for one in seen):
            yield Violation(invariant="I2", text=f"{run_id} shows an outcome before its end")


def i6_cost(ended: Ended) -> Iterator[Violation]:
    """The recorded cost is at least what was incurred, and not much more."""
    if not ended.is_over or ended.scenario.dies_at is not None:
        return
    found = runs(ended)
    kept = sum(row[5] for row in ended.rows["kept"]) / 1e6
    recorded = float(sum(run.cost_usd for run in found.values())) + kept
    ours = [life for life in machines(ended) if life.run_id]
    incurred = _usd(sum((life.gone_at or ended.ended_at) - life.born_at for life in ours))
    members = sum(len(attempt.members) for run in found.values() for attempt in run.attempts)
    unsure = _usd(2 * ended.clock_s * members)
    if recorded < incurred - unsure - 0.001:
        text = f"recorded {recorded:.4f} USD, incurred {incurred:.4f}"
        yield Violation(invariant="I6", text=text)
    heal_s = ended.scenario.heals_at if ended.heals else ended.ended_at
    slack = members * (POLICY.grace.total_seconds() + LEAK_S + heal_s) + LEAK_S
    if recorded > incurred + unsure + _usd(slack):
        text = f"recorded {recorded:.4f} USD, incurred only {incurred:.4f}"
        yield Violation(invariant="I6", text=text)


def i6_gone_is_gone(ended: Ended) -> Iterator[Violation]:
    """What a run's record calls gone exists no more: else it costs, and nobody counts it."""
    gone = {
        member.name: (member.gone_at - EPOCH).total_seconds()
        for run in runs(ended).values()
        for attempt in run.attempts
        if attempt.kept_until is None and not attempt.offer.warm  # handed over, not gone
        for member in attempt.members
        if member.gone_at is not None
    }
    for life in machines(ended):
        told = gone.get(life.name, ended.ended_at) + 2 * ended.clock_s + EARLY_S
        if life.name in gone and (life.gone_at or ended.ended_at) > told:
            text = f"{life.uid} is called gone at {gone[life.name]:.1f}, lives until {life.gone_at}"
            yield Violation(invariant="I6", text=text)


def _usd(seconds: float) -> float:
    return seconds / 3600 * float(USD_PER_HOUR)


def i7_one_executor(ended: Ended) -> Iterator[Violation]:
    """No two attempts of a run execute at the same time."""
    executing: dict[str, dict[str, str]] = defaultdict(dict)  # run → machine → attempt
    for one in ended.record.log:
        if one.kind == "work.begins":
            run_id, attempt, *_ = one.detail.split()
            others = set(executing[run_id].values()) - {attempt}
            executing[run_id][one.name] = attempt
            if others:
                text = f"{run_id}: attempts {attempt} and {others} execute at {one.at:.1f}"
                yield Violation(invariant="I7", text=text)
        elif one.kind == "work.ends":
            executing[one.detail.split()[0]].pop(one.name, None)


def i8_progress(ended: Ended) -> Iterator[Violation]:
    """Once the world is well, everything comes to its end."""
    if ended.heals and not ended.is_over:
        states = [(row[0], row[1]) for row in ended.rows["runs"]]
        alive = [life.uid for life in machines(ended) if life.gone_at is None]
        yield Violation(invariant="I8", text=f"not over: {states}, machines {alive}")


def i10_bounded(ended: Ended) -> Iterator[Violation]:
    """Machines, orders and calls of a run are bounded."""
    found = runs(ended)
    by_run: dict[str, int] = defaultdict(int)
    for life in machines(ended):
        by_run[life.run_id] += 1
    creates: dict[str, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    for one in ended.record.log:
        if one.kind.startswith("cloud.") and one.name.startswith("cynthus-"):
            calls[one.name.split("-")[1]] += 1
            creates[one.name] += one.kind == "cloud.create"
    for run_id, run in found.items():
        members = sum(len(attempt.members) for attempt in run.attempts)
        # Of three creates two may be late, and each make a machine once the one before is gone.
        sent = sum(number for name, number in creates.items() if name.split("-")[1] == run_id)
        if by_run[run_id] > max(2 * members, sent):
            text = f"{run_id}: {by_run[run_id]} machines for {members} orders, sent {sent} times"
            yield Violation(invariant="I10", text=text)
    for what, numbers, most in (("orders", creates, CREATES), ("calls", calls, CALLS)):
        for name, number in numbers.items():
            if number > most:
                yield Violation(invariant="I10", text=f"{name}: {number} {what}")


def i11_heard_is_kept(ended: Ended) -> Iterator[Violation]:
    """A run is not given up as silent while its agent is heard."""
    heard: dict[str, list[float]] = defaultdict(list)
    for at, name, _, _, _ in ended.rows["seen_instances"]:
        heard[name].append(at)
    limit = POLICY.silence_limit.total_seconds() - EARLY_S - 2 * ended.clock_s
    for run_id, seen in changes(ended).items():
        for before, one in itertools.pairwise(seen):
            # An agent that stopped by itself since it could not reach us reports just that.
            if _SILENT not in one.reason or _SILENT in before.reason:
                continue
            prefix = f"cynthus-{run_id}-{one.attempts}"
            names = [name for name in heard if name == prefix or name.startswith(f"{prefix}-")]
            last = [max((at for at in heard[n] if at < one.at), default=0.0) for n in names]
            if last and one.at - min(last) < limit:
                text = f"{run_id} given up at {one.at:.1f}, heard at {min(last):.1f}"
                yield Violation(invariant="I11", text=text)


_SILENT = "no heartbeat since"


def i12_budget(ended: Ended) -> Iterator[Violation]:
    """No order commits a repository beyond its budget, with what is booked for instances kept."""
    limit = ended.scenario.budget.repository_usd
    if limit is None:
        return
    #: By repository, then by run or by the instance that waits.
    booked: dict[int, dict[str, int]] = defaultdict(dict)
    ordered: dict[str, int] = defaultdict(int)
    whose = {row[1]: row[6] for row in ended.rows["seen_runs"]}
    kept = list(reversed(ended.rows["seen_kept"]))
    for number, row in enumerate(ended.rows["seen_runs"]):
        while kept and kept[-1][1] <= number:  # so many changes of runs came before
            _, _, name, microusd = kept.pop()
            booked[whose[run_of(name)]][name] = microusd
        seen = Seen(*row)
        its = booked[seen.repository]
        its[seen.id] = seen.booked
        if seen.attempts > ordered[seen.id] and Decimal(sum(its.values())) > limit * 1_000_000:
            text = f"{seen.id} ordered at {seen.at:.1f}: {sum(its.values())} of {limit} USD"
            yield Violation(invariant="I12", text=text)
        ordered[seen.id] = seen.attempts


def i18_monotone(ended: Ended) -> Iterator[Violation]:
    """Versions, attempts, beats and the moments of hearing never go back; closed stays closed."""
    for run_id, seen in changes(ended).items():
        for before, one in itertools.pairwise(seen):
            if one.version < before.version or one.attempts < before.attempts:
                yield Violation(invariant="I18", text=f"{run_id} goes back: {before} → {one}")
    last: dict[str, tuple[Any, ...]] = {}
    for _, name, beat, closed, heard in ended.rows["seen_instances"]:
        now = (beat, closed, heard or "")
        if any(new < old for new, old in zip(now, last.get(name, now), strict=True)):
            yield Violation(invariant="I18", text=f"{name} goes back: {last[name]} → {now}")
        last[name] = now


def i21_only_what_is_over_is_deleted(ended: Ended) -> Iterator[Violation]:
    """A machine is deleted only once its attempt is closed, or nobody has known it for long."""
    closed = closed_at(ended)
    known = {row[0] for row in ended.rows["instances"]}
    users = _users(ended.rows["kept"])
    born = {life.uid: life for life in machines(ended)}
    for one in ended.record.log:
        if one.kind != "machine.deleted":
            continue
        life = born[one.name]
        names = [name for name in (life.name, *users.get(life.name, ())) if name in known]
        if not names and one.at - life.born_at < UNKNOWN_GRACE.total_seconds() - EARLY_S:
            yield Violation(invariant="I21", text=f"{life.uid} unknown, deleted at {one.at:.1f}")
        # Who takes it over after its deletion began is ordered later: only the first must be over.
        if names and closed.get(names[0], one.at + 1) > one.at:
            yield Violation(invariant="I21", text=f"{life.uid} deleted at {one.at:.1f} at work")


def closed_at(ended: Ended) -> dict[str, float]:
    """Return since when each instance is closed."""
    found: dict[str, float] = {}
    for at, name, _, closed, _ in ended.rows["seen_instances"]:
        if closed:
            found.setdefault(name, at)
    return found


def _users(kept: Iterable[tuple[Any, ...]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for _, machine, taken_by, *_ in kept:
        if taken_by:
            found[machine].append(taken_by)
    return found


def nothing_unexpected(ended: Ended) -> Iterator[Violation]:
    """The server logs no exception but of what was not to be had."""
    for fault in ended.faults:
        yield Violation(invariant="I0", text=f"the simulation's own fault: {fault!r}")
    expected = _EXPECTED if ended.scenario.poison_at is None else _EXPECTED | _OF_POISON
    for at, template, words in ended.record.said:
        name = words.rpartition(" ")[2]
        is_fault = template in _GUARDED_BY and name not in expected
        if is_fault:
            yield Violation(invariant="I0", text=f"{template} {words} at {at:.1f}")


#: What the outermost guards log, with the exception's name at the end.
_GUARDED_BY = frozenset(
    {
        "pass failed run=%s tries=%d",
        "giving up failed run=%s",
        "loop failed name=%s",
        "sweep failed provider=%s",
        "sweep failed name=%s provider=%s",
        "warm instance failed name=%s",
    }
)
_EXPECTED = frozenset({"DatabaseUnavailable"})
_OF_POISON = frozenset({"UserError"})  # what reading a damaged row raises


def i22_data_is_pinned_once(ended: Ended) -> Iterator[Violation]:
    """What a run stands on was looked up before its first machine, and never again."""
    first: dict[str, float] = {}
    for life in lives(ended.record.log):
        first.setdefault(life.run_id, life.born_at)
    for run_id, run in runs(ended).items():
        if run.spec is None or not run.spec.data or run_id not in first:
            continue
        # The simulated hub's commits are named after the moment at which they were looked up.
        looked = [int(one.revision, 16) / 1000 for one in run.datasets or ()]
        if not looked or max(looked) > first[run_id]:
            text = f"{run_id}: a machine at {first[run_id]:.1f} s, its data looked up at {looked}"
            yield Violation(invariant="I22", text=text)


ORACLES: tuple[Oracle, ...] = (
    nothing_unexpected,
    i1_nothing_leaks,
    i1b_machines_end_themselves,
    i2_one_end,
    i6_cost,
    i6_gone_is_gone,
    i7_one_executor,
    i8_progress,
    i10_bounded,
    i11_heard_is_kept,
    i12_budget,
    i18_monotone,
    i21_only_what_is_over_is_deleted,
    i22_data_is_pinned_once,
)


def violations(ended: Ended) -> list[Violation]:
    """Return all that a history did that must never happen."""
    return [found for oracle in ORACLES for found in oracle(ended)]
