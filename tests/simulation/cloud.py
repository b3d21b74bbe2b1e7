"""A cloud as it really is: it refuses, hides, reboots, takes back, and ends machines by itself.

What is recorded here is the outside's own truth. Replicas reach it through `Port`, where each call
has a fate; the cloud's own moods are beside that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from cynthus.spec import Resources
from tests.builders import an_offer
from tests.simulation.fates import Fates
from tests.simulation.record import Record
from tests.simulation.scheduler import Program, Scheduler
from webhook_server.providers.provider import (
    Fate,
    Instance,
    InstanceNotFound,
    NoCapacity,
    ProviderUnavailable,
    QuotaExceeded,
    Scope,
)
from webhook_server.runs.lending import Offer, Order

T = TypeVar("T")

BLIND_S = 40.0  # a new instance is missing from answers this long at most
PLACES = ("north-a", "north-b", "south-a")
USD_PER_HOUR = Decimal("3.60")
TAKEN = (Fate.HOST_ERROR, Fate.SUSPENDED, Fate.STOPPED, Fate.PREEMPTED)  # without any notice
_STAYS = frozenset({Fate.SUSPENDED, Fate.STOPPED})  # and costs, until it is deleted


@dataclass(eq=False)
class Machine:
    """One machine as it really was."""

    uid: str  # its name, with a number when the name was born again
    order: Order | None  # None: planted, nobody ordered it
    name: str
    place: str
    born_at: float
    dies_at: float
    visible_at: float
    program: Program
    fate: Fate = Fate.RUNNING
    gone_at: float | None = None
    working: str = ""  # "run attempt rank" while the user's command executes on it


@dataclass(kw_only=True)
class Moods:
    """What this cloud is like in this history, between 0 and 1 each."""

    full: float = 0.0  # has no capacity
    quota: bool = False  # the account may have nothing
    hides: float = 0.0  # a new machine is not visible at once
    taken: float = 0.0  # a machine is taken back some time
    noticed: float = 0.5  # of those: with a notice before
    reboots: float = 0.0


@dataclass
class Cloud:
    """Lends machines under the names that it is told."""

    name: str
    scheduler: Scheduler
    record: Record
    chance: random.Random
    moods: Moods
    on_birth: Callable[[Cloud, Machine], None] = lambda _cloud, _machine: None
    machines: dict[str, Machine] = field(default_factory=dict)  # by name: the newest
    all: list[Machine] = field(default_factory=list)
    failed: dict[str, NoCapacity] = field(default_factory=dict)  # orders told to fail by `get`
    over: dict[str, Fate] = field(default_factory=dict)
    healed: bool = False

    def bad(self, share: float) -> bool:
        """Say whether something bad of this share happens now."""
        return not self.healed and share > 0 and self.chance.random() < share

    # ── the five verbs, as they take effect ─────────────────────────────────────────────────────

    def offers(self, need: Resources) -> list[Offer]:  # noqa: ARG002 - it lends one kind
        """Return what could be lent."""
        if self.moods.quota and not self.healed:
            raise QuotaExceeded("the account may have none")
        return [
            an_offer(provider=self.name, place=place, spot=spot, usd_per_hour=USD_PER_HOUR)
            for spot in (True, False)
            for place in PLACES
        ]

    def create(self, order: Order) -> Instance:
        """Bear a machine, or refuse, at once or later."""
        known = self.machines.get(order.name)
        if known is not None and known.gone_at is None:
            return _told(known)
        if self.bad(self.moods.full):
            scope = self.chance.choice([Scope.ZONE, Scope.REGION])
            refusal = NoCapacity("none here", scope=scope, elsewhere=("south-a",))
            if self.chance.random() < 0.5:
                raise refusal
            self.failed[order.name] = refusal
            return Instance(name=order.name, place=order.offer.place, alive=True)
        life_s = order.max_life.total_seconds()
        return _told(self.bear(order.name, order.offer.place, life_s, order))

    def get(self, name: str) -> Instance:
        """Return what is visible of that name."""
        machine = self._visible(name)
        if machine is not None:
            return _told(machine)
        if name in self.failed:
            raise self.failed[name]
        raise InstanceNotFound(name, fate=self.over.get(name))

    def list(self) -> list[Instance]:
        """Return all that is visible."""
        found = (self._visible(name) for name in list(self.machines))
        return [_told(machine) for machine in found if machine is not None]

    def delete(self, name: str, who: str = "") -> None:
        """Begin to end the machine of that name."""
        self.failed.pop(name, None)
        machine = self._visible(name)
        if machine is None:
            raise InstanceNotFound(name)
        if machine.fate is not Fate.ENDING:
            self._fact("machine.deleted", machine, who)
            machine.fate = Fate.ENDING
            self._stop(machine)
            self._later(self.chance.choice([0.0, 20.0, 60.0]), lambda: self.end(machine))

    # ── what machines go through ────────────────────────────────────────────────────────────────

    def bear(self, name: str, place: str, life_s: float, order: Order | None = None) -> Machine:
        """Let a machine exist from now on, until its own end at the latest."""
        now = self.scheduler.now
        again = sum(1 for machine in self.all if machine.name == name)
        hidden_s = self.chance.random() * BLIND_S if self.bad(self.moods.hides) else 0.0
        uid = f"{name}#{again}" if again else name
        machine = Machine(
            uid=uid,
            order=order,
            name=name,
            place=place,
            born_at=now,
            dies_at=now + life_s,
            visible_at=now + hidden_s,
            program=Program(f"machine {uid}"),
        )
        self.machines[name] = machine
        self.all.append(machine)
        self._fact("machine.born", machine, f"{life_s:.0f}")
        self._later(life_s, lambda: self.end(machine))
        if order is not None:
            self.on_birth(self, machine)
        return machine

    def end(self, machine: Machine) -> None:
        """Let the machine be gone. Safe to repeat."""
        if machine.gone_at is None:
            self._stop(machine)
            machine.gone_at = self.scheduler.now
            self._fact("machine.gone", machine)

    def take(self, machine: Machine, fate: Fate) -> None:
        """Take the machine back, or stop it."""
        if machine.gone_at is not None or machine.fate is not Fate.RUNNING:
            return
        self._fact("machine.taken", machine, fate)
        if fate in _STAYS:
            machine.fate = fate
            self._stop(machine)
        else:
            self.over[machine.name] = fate
            self.end(machine)

    def reboot(self, machine: Machine) -> None:
        """Let the machine begin anew: what ran on it is over, and it boots."""
        if machine.gone_at is None and machine.fate is Fate.RUNNING:
            self._fact("machine.rebooted", machine)
            self._stop(machine)
            machine.program = Program(f"{machine.program.name} again")
            self.on_birth(self, machine)

    def begin_work(self, machine: Machine, what: str) -> None:
        """Note that the user's command executes on the machine."""
        machine.working = what
        self._fact("work.begins", machine, what)

    def end_work(self, machine: Machine) -> None:
        """Note that it does no more. Safe to repeat."""
        if machine.working:
            self._fact("work.ends", machine, machine.working)
            machine.working = ""

    def alive(self) -> list[Machine]:
        """Return what exists, seen or unseen."""
        return [machine for machine in self.all if machine.gone_at is None]

    def _stop(self, machine: Machine) -> None:
        self.end_work(machine)
        self.scheduler.crash(machine.program)

    def _visible(self, name: str) -> Machine | None:
        machine = self.machines.get(name)
        if machine is None or machine.gone_at is not None:
            return None
        return machine if machine.visible_at <= self.scheduler.now else None

    def _later(self, seconds: float, what: Callable[[], object]) -> None:
        self.scheduler.spawn(self._itself, what, after=seconds)

    def _fact(self, kind: str, machine: Machine, detail: str = "") -> None:
        self.record.fact(self.scheduler.now, kind, machine.uid, detail)

    def __post_init__(self) -> None:
        self._itself = Program(f"cloud {self.name}")


def _told(machine: Machine) -> Instance:
    alive = machine.fate is Fate.RUNNING
    return Instance(name=machine.name, place=machine.place, alive=alive, fate=machine.fate)


class Port:
    """A provider of the server: the five verbs, each call with its fate."""

    def __init__(self, cloud: Cloud, fates: Fates) -> None:
        self.name = cloud.name
        self._cloud, self._fates = cloud, fates

    def offers(self, need: Resources) -> list[Offer]:
        """See `Provider`."""
        return self._call("offers", lambda: self._cloud.offers(need))

    def create(self, order: Order, enrol_secret: str) -> Instance:  # noqa: ARG002
        """See `Provider`."""
        return self._call("create", lambda: self._cloud.create(order), order.name)

    def get(self, name: str) -> Instance:
        """See `Provider`."""
        return self._call("get", lambda: self._cloud.get(name), name)

    def list(self) -> list[Instance]:
        """See `Provider`."""
        return self._call("list", self._cloud.list)

    def delete(self, name: str) -> None:
        """See `Provider`."""
        task = self._cloud.scheduler.current
        who = task.program.name if task is not None else ""
        self._call("delete", lambda: self._cloud.delete(name, who), name)

    def _call(self, verb: str, do: Callable[[], T], name: str = "") -> T:
        return self._fates.call(
            f"cloud.{verb}", do, refused=_unavailable, lost=_no_answer, name=name
        )


def _unavailable() -> Exception:
    return ProviderUnavailable("503")


def _no_answer() -> Exception:
    return ProviderUnavailable("no answer")
