"""Draw what a history is about: replicas, runs, what the world is like, when it heals."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from tests.simulation.cloud import Moods
from tests.simulation.fates import LATEST_S, Plan
from webhook_server.runs.budget import BudgetLimits
from webhook_server.runs.policy import CLOUD, Policy

#: A replica may sleep so long between saving an order and giving it, as a paused thread does.
LONGEST_PAUSE_S = 90.0
#: As a cloud, with waits cut down to what this world's faults need: a history takes hours less.
POLICY = replace(
    CLOUD,
    boot_limit=timedelta(minutes=4),
    provision_limit=timedelta(minutes=3),
    pull_limit=timedelta(minutes=5),
    collect_limit=timedelta(minutes=5),
    grace=timedelta(seconds=LATEST_S + LONGEST_PAUSE_S + 60),
    visible_after=timedelta(seconds=45),
    capacity_forgiven=timedelta(minutes=5),
    capacity_limit=timedelta(minutes=20),
    longest_cool_down=timedelta(minutes=2),
    life_margin=timedelta(minutes=10),
)
#: Asks the same question again less often: the same answers, in half of the passes.
PATIENT = replace(POLICY, ask_every=timedelta(seconds=30), delete_retry=timedelta(seconds=10))
_SMALL = 0.75  # of all drawn histories
#: From the healing on: attempts that are left, each with its limits, waits, and give-backs.
HEALED_S = 90 * 60.0
SAFETY_S = 40 * 60.0  # a history that never heals is looked at for so long


class Mode(StrEnum):
    """Whether the world ever gets well."""

    SAFETY = "safety"  #: it never does: nothing forbidden may happen
    LIVENESS = "liveness"  #: it does at a random time: then everything must come to its end


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One run that somebody wants."""

    id: str
    at: float
    nodes: int = 1
    warm_s: float = 0.0
    provider: str | None = None
    cancel_at: float | None = None
    data: bool = False  # it stands on data that a hub has


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """All that is decided before a history begins; equal scenarios give equal histories."""

    seed: int = 0
    mode: Mode = Mode.LIVENESS
    by_chance: bool = True  # False: no faults but those of `plan`
    plan: Plan | None = None
    more: tuple[Plan, ...] = ()  # other plans of the same history
    notices: tuple[tuple[float, str], ...] = ()  # when which machine is told that it is taken
    off: Collection[str] = ()  # faults that are switched off: "late", "cloud.create", "pause" …
    most: float = float("inf")  # faults in all
    replicas: int = 2
    clock_errors: tuple[float, ...] = (0.0, 0.0, 0.0)
    wanted: tuple[Wanted, ...] = (Wanted(id="arun00000001", at=0.0),)
    budget: BudgetLimits = field(default_factory=BudgetLimits)
    moods: Moods = field(default_factory=Moods)
    far: Moods | None = None  # of a second cloud
    heals_at: float = 0.0
    naps: tuple[tuple[float, str, float], ...] = ()  # when which replica is paused, how long
    dies_at: float | None = None  # when the control plane is dead for ever
    pauses: float = 0.0  # a replica is paused so often a minute
    kills: float = 0.0
    cuts: float = 0.0  # of all agents: cut off for a while
    repeats: float = 0.0  # of all beats: an old one comes again
    idle_s: float = 5.0  # the longest wait between two looks of a loop
    exits: tuple[int, ...] = (0, 0, 0, 3)  # what commands end with
    works_s: tuple[float, ...] = (3.0, 15.0, 60.0)  # how long commands take
    stray: bool = False  # something wears our mark that nobody ordered
    poison_at: float | None = None  # a row of the first run is damaged from then to the healing
    policy: Policy = POLICY

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Return every planned fault."""
        return self.more if self.plan is None else (self.plan, *self.more)

    @property
    def warm(self) -> bool:
        """Say whether machines may be kept for the next run."""
        return any(one.warm_s for one in self.wanted)

    @property
    def shares(self) -> bool:
        """Say whether runs share what one of them may take from another: a machine, a budget."""
        return self.warm or self.budget.repository_usd is not None

    @property
    def limit(self) -> float:
        """Return when the history ends at the latest."""
        return SAFETY_S if self.mode is Mode.SAFETY else self.heals_at + HEALED_S


def plain(plan: Plan | None = None, **changes: object) -> Scenario:
    """Return one run in a world where all is well, but for the plan's one fault."""
    given: dict[str, object] = {"by_chance": False, "plan": plan, "replicas": 1}
    given |= {"idle_s": 60.0, "works_s": (3.0,), "exits": (0,)}  # as few calls as one life takes
    return Scenario(**(given | changes))  # type: ignore[arg-type]


def drawn(seed: int, mode: Mode = Mode.LIVENESS, off: Collection[str] = ()) -> Scenario:
    """Draw a scenario: each seed has its own shape and its own faults, and most are small."""
    found = wide(seed, mode, off)
    return _small(found) if random.Random(f"{seed}/small").random() < _SMALL else found


def _small(found: Scenario) -> Scenario:
    """Leave out what makes a history long, but not what may go wrong in it.

    Drawn apart, and from what was drawn: a history that stays wide is what it was.
    """
    return replace(
        found,
        wanted=found.wanted if found.shares else found.wanted[:1],
        heals_at=min(found.heals_at, 180.0),
        idle_s=max(found.idle_s, 30.0),
        policy=PATIENT,
    )


def wide(seed: int, mode: Mode = Mode.LIVENESS, off: Collection[str] = ()) -> Scenario:
    """Draw one with up to three runs, and nothing left out."""
    chance = random.Random(f"{seed}/scenario")
    on = _On(chance, off)
    heals_at = chance.choice([60.0, 180.0, 400.0])
    wanted = _wanted(chance, on)
    nodes = max(one.nodes for one in wanted)
    return Scenario(
        seed=seed,
        mode=mode,
        off=off,
        replicas=chance.choice([1, 2, 2, 3]),
        clock_errors=tuple(on(0.5, "clock", chance.uniform(-300, 300)) for _ in range(3)),
        wanted=_with_data(wanted, seed, off),
        budget=_budget(chance, on, nodes),
        moods=_moods(chance, on),
        far=Moods(full=0.8, quota=chance.random() < 0.5) if on(0.2, "far", 1.0) else None,
        heals_at=heals_at,
        dies_at=on(0.1, "death", chance.random() * 300) or None,
        pauses=on(0.3, "pause", chance.choice([0.3, 1.0])),
        kills=on(0.3, "kill", chance.choice([0.3, 1.0])),
        cuts=on(0.3, "cut", chance.choice([0.3, 0.8])),
        repeats=on(0.3, "repeat", 0.3),
        idle_s=chance.choice([5.0, 30.0, 60.0, 60.0]),
        stray=bool(on(0.1, "stray", 1.0)),
        poison_at=on(0.05, "poison", chance.random() * 60) or None,
    )


class _On:
    """Draws whether a trouble is on; what is switched off draws all the same, and is not."""

    def __init__(self, chance: random.Random, off: Collection[str]) -> None:
        self._chance, self._off = chance, off

    def __call__(self, share: float, name: str, value: float) -> float:
        is_on = self._chance.random() < share
        return value if is_on and name not in self._off else 0.0


def _wanted(chance: random.Random, on: _On) -> tuple[Wanted, ...]:
    number = chance.choice([1, 1, 2, 3])
    is_warm = on(0.2, "warm", 1.0)
    found = []
    for index in range(number):
        at = 0.0 if index == 0 else chance.random() * 200
        cancelled = on(0.2, "cancel", 1.0) and at + chance.random() * 200
        found.append(
            Wanted(
                id=f"arun0000000{index + 1}",
                at=at,
                nodes=2 if on(0.15, "gang", 1.0) else 1,
                warm_s=chance.choice([60.0, 300.0]) if is_warm else 0.0,
                provider="far" if on(0.15, "far", 1.0) else None,
                cancel_at=cancelled or None,
            )
        )
    return tuple(found)


def _with_data(wanted: tuple[Wanted, ...], seed: int, off: Collection[str]) -> tuple[Wanted, ...]:
    """Let the runs of every eighth history stand on data; drawn apart, so that all else stays."""
    if "data" in off or random.Random(f"{seed}/data").random() >= 0.125:
        return wanted
    return tuple(replace(one, data=True) for one in wanted)


def _budget(chance: random.Random, on: _On, nodes: int) -> BudgetLimits:
    """Every fifth history pays for little more than one life at a time."""
    limit = Decimal(chance.choice([3, 6])) * nodes if on(0.2, "budget", 1.0) else None
    return BudgetLimits(repository_usd=limit, owner_usd=None)


def _moods(chance: random.Random, on: _On) -> Moods:
    return Moods(
        full=on(0.25, "full", chance.choice([0.2, 0.6])),
        hides=on(0.25, "hide", chance.choice([0.3, 1.0])),
        taken=on(0.35, "take", chance.choice([0.3, 0.8])),
        noticed=chance.random(),
        reboots=on(0.15, "reboot", 0.4),
    )
