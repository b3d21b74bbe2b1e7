"""Give every call of the outside its fate: by chance, each seed with its own rates, or by a plan.

Which fates are on and how often they strike is drawn anew for each seed and each kind of call
("swarm testing"; a quarter of the sites are on, as FoundationDB's buggify has it:
https://apple.github.io/foundationdb/client-testing.html).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from tests.simulation.record import Happened, Record
from tests.simulation.scheduler import Crashed, Program, Scheduler

T = TypeVar("T")


class Fate(StrEnum):
    """What becomes of one call."""

    OK = "ok"
    REFUSED = "refused"
    REQUEST_LOST = "request_lost"
    ANSWER_LOST = "answer_lost"
    LATE = "late"  #: as an answer that is lost, and the effect comes later
    CRASH_BEFORE = "crash_before"  #: kill -9 before it has an effect
    CRASH_AFTER = "crash_after"


FAULTS = tuple(fate for fate in Fate if fate is not Fate.OK)
EVERY = frozenset(Fate)
#: A database has carried a work out or not: nothing of it comes later.
DURABLE = EVERY - {Fate.LATE}
LATEST_S = 120.0  # a call whose answer was lost takes effect within this
TIMEOUT_S = 30.0  # after which clients give up, unless `Pace` says otherwise
_ON = 0.25
_CRASHES = (Fate.CRASH_BEFORE, Fate.CRASH_AFTER)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Exactly the n-th call (from 0), and the `times` - 1 after it, get this fate.

    `of`: counted are only calls of this kind, of this name, or of "kind name".
    """

    nth: int
    fate: Fate
    of: str = ""
    times: int = 1
    late_s: float | None = None  # of a late effect; None: drawn


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a kind of call takes, and how often its faults strike where they are on."""

    takes_s: float  # at most
    rates: tuple[float, ...]
    timeout_s: float = TIMEOUT_S
    crashes: tuple[float, ...] = (0.002, 0.01, 0.03)


#: By the part of the kind before the dot. A run makes a hundred calls of the database, thirty of
#: its agent and ten of the cloud: each kind strikes about as often in a history.
PACES = {
    "db": Pace(takes_s=0.02, rates=(0.003, 0.01, 0.03), timeout_s=5.0, crashes=(0.001, 0.003)),
    "agent": Pace(takes_s=0.1, rates=(0.02, 0.1, 0.3), timeout_s=10.0),
    "github": Pace(takes_s=0.5, rates=(0.03, 0.1, 0.3), timeout_s=15.0),
}
_OTHERS = Pace(takes_s=1.0, rates=(0.05, 0.2, 0.4))


class Fates:
    """Draws, injects, counts and records."""

    def __init__(
        self,
        scheduler: Scheduler,
        record: Record,
        *,
        seed: object = 0,
        plans: Collection[Plan] = (),
        off: Collection[str] = (),
        by_chance: bool = True,
    ) -> None:
        self._scheduler, self._record = scheduler, record
        self._swarm = random.Random(f"{seed}/swarm")
        self._chance = random.Random(f"{seed}/fates")
        self._pace = random.Random(f"{seed}/pace")
        self._off = frozenset(off)
        self._by_chance = by_chance and not plans
        self._sites: dict[str, tuple[tuple[float, Fate], ...]] = {}
        self._outside = Program("outside")
        self.calls = 0
        self._counted = dict.fromkeys(plans, 0)  # of each plan: the calls that it counts
        self.heals_at = float("inf")
        self.most = float("inf")  # faults in all: shrinking lowers it
        self.injected = 0

    def call(
        self,
        kind: str,
        do: Callable[[], T],
        *,
        refused: Callable[[], Exception],
        lost: Callable[[], Exception],
        name: str = "",
        can: Collection[Fate] = EVERY,
    ) -> T:
        """Make one call of the outside for the current task; `can` are the fates it may have.

        `refused` and `lost` make what the caller is told then. Raises: those, what `do` raises,
        Crashed.
        """
        task = self._scheduler.current
        assert task is not None
        program = task.program
        if not program.alive:
            raise Crashed
        pace = _pace_of(kind)
        number, self.calls = self.calls, self.calls + 1
        fate, late_s = Fate.OK, None
        if self._by_chance:
            fate = self._drawn(kind)
        elif self._counted:
            fate, late_s = self._planned(number, (kind, name))
        if fate is not Fate.OK and (
            fate not in can or (fate in _CRASHES and not program.may_crash)
        ):
            fate = Fate.OK
        self._scheduler.sleep(self._pace.random() * pace.takes_s)
        at = self._scheduler.now
        self._record.log.append(Happened(at, program.name, kind, name, fate, "", number))
        if fate is Fate.OK:
            return do()
        self.injected += 1
        if fate is Fate.LATE:
            later = self._pace.random() * LATEST_S if late_s is None else late_s
            self._scheduler.spawn(self._outside, lambda: _quietly(do), after=later)
        return self._strike(fate, pace, do, refused, lost)

    def is_pending(self) -> bool:
        """Say whether a late effect is still to come."""
        return bool(self._outside.tasks)

    def _strike(
        self,
        fate: Fate,
        pace: Pace,
        do: Callable[[], T],
        refused: Callable[[], Exception],
        lost: Callable[[], Exception],
    ) -> T:
        if fate is Fate.REFUSED:
            raise refused()
        if fate is Fate.CRASH_BEFORE:
            self._crash()
        if fate not in {Fate.REQUEST_LOST, Fate.LATE}:
            _quietly(do)
        if fate is Fate.CRASH_AFTER:
            self._crash()
        self._scheduler.sleep(self._pace.random() * pace.timeout_s)
        raise lost()

    def _crash(self) -> None:
        task = self._scheduler.current
        assert task is not None
        self._scheduler.crash(task.program)
        raise Crashed

    def _planned(self, number: int, what: tuple[str, str]) -> tuple[Fate, float | None]:
        found: tuple[Fate, float | None] = (Fate.OK, None)
        for plan in self._counted:
            nth = number
            if plan.of:
                if plan.of not in {*what, " ".join(what)}:
                    continue
                nth, self._counted[plan] = self._counted[plan], self._counted[plan] + 1
            if plan.nth <= nth < plan.nth + plan.times:
                found = plan.fate, plan.late_s
        return found

    def _drawn(self, kind: str) -> Fate:
        site = self._sites.get(kind)
        if site is None:
            site = self._sites[kind] = self._site(kind)
        luck = self._chance.random()
        if self._scheduler.now >= self.heals_at or self.injected >= self.most:
            return Fate.OK
        for end, fate in site:
            if luck < end:
                return fate
        return Fate.OK

    def _site(self, kind: str) -> tuple[tuple[float, Fate], ...]:
        """Draw which fates this kind of call has in this history, and how often."""
        pace = _pace_of(kind)
        found, end = [], 0.0
        for fate in FAULTS:
            rate = self._swarm.choice(pace.crashes if fate in _CRASHES else pace.rates)
            is_on = self._swarm.random() < _ON
            if is_on and not {fate.value, kind, f"{kind}:{fate}"} & self._off:
                end += rate
                found.append((end, fate))
        return tuple(found)


@functools.cache
def _pace_of(kind: str) -> Pace:
    return PACES.get(kind.partition(".")[0], _OTHERS)


def _quietly(do: Callable[[], object]) -> None:
    """Let the effect take place; nobody hears what it answered."""
    try:
        do()
    except Crashed:
        raise
    except Exception:  # noqa: BLE001 - the answer is lost, a refusal's too
        pass
