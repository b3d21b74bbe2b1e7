"""A bad world, by the seed: agents and a cloud that fail in every way, with what they really did.

What is recorded here is the outside's own truth; the tests compare it with what the server says.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from cynthus.repository_policy import RepositoryPolicy
from cynthus.spec import Resources
from cynthus.wire import AgentState
from tests.builders import an_exit, an_offer, some_facts
from tests.engine.world import RUN, World
from webhook_server.providers.provider import (
    Fate,
    Instance,
    InstanceNotFound,
    NoCapacity,
    ProviderUnavailable,
    Scope,
)
from webhook_server.runs.approval import granted
from webhook_server.runs.lending import Offer, Order
from webhook_server.runs.limits import price
from webhook_server.runs.model import Attempt, Extension, Run
from webhook_server.stores.budget_store import BudgetStore
from webhook_server.stores.instance_store import Enrolling

LATE = timedelta(seconds=120)  # a create whose answer was lost takes effect within this
BLIND = timedelta(seconds=40)  # a new instance is missing from answers this long
TAKEN = (Fate.HOST_ERROR, Fate.SUSPENDED, Fate.STOPPED, Fate.PREEMPTED)  # without any notice
AGENTS_SILENCE = timedelta(seconds=90)  # what work.py tells them
BEAT = timedelta(seconds=10)  # of an agent that has no news


@dataclass
class Life:
    """One instance as it really was."""

    order: Order
    born_at: datetime
    visible_at: datetime
    fate: Fate = Fate.RUNNING
    leaves_at: datetime | None = None  # a deletion takes its time
    gone_at: datetime | None = None


class BadCloud:
    """Lends in three places; by the seed it refuses, loses answers, delays, hides, takes back."""

    name = "fake"

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world, self._chance = world, chance
        self.lives: dict[str, Life] = {}
        self.coming: list[tuple[datetime, Order]] = []
        self.failed: dict[str, NoCapacity] = {}
        self.over: dict[str, Fate] = {}
        self.healed = False
        self.rate = chance.choice([0.0, 0.05, 0.2, 0.4])
        self.full = chance.choice([0.0, 0.2, 0.6])

    def _bad(self, share: float) -> bool:
        return not self.healed and self._chance.random() < share

    def _flaky(self) -> None:
        if self._bad(self.rate):
            raise ProviderUnavailable("503")

    def offers(self, need: Resources) -> list[Offer]:  # noqa: ARG002 - it lends one kind
        self._flaky()
        places = ["north-a", "north-b", "south-a"]
        return [an_offer(place=place, spot=spot) for spot in (True, False) for place in places]

    def create(self, order: Order, enrol_secret: str) -> Instance:  # noqa: ARG002
        now = self._world.now
        self._flaky()
        if order.name in self.lives and self.lives[order.name].gone_at is None:
            return self._told(order.name)
        if self._bad(self.full):
            scope = self._chance.choice([Scope.ZONE, Scope.REGION])
            refusal = NoCapacity("none here", scope=scope, elsewhere=("south-a",))
            if self._chance.random() < 0.5:
                raise refusal
            self.failed[order.name] = refusal  # told by `get`
            return Instance(name=order.name, place=order.offer.place, alive=True)
        if self._bad(self.rate):
            self.coming.append((now + self._chance.random() * LATE, order))
            raise ProviderUnavailable("no answer")
        self._bear(order)
        if self._bad(self.rate):
            raise ProviderUnavailable("no answer")
        return self._told(order.name)

    def _bear(self, order: Order) -> None:
        now = self._world.now
        known = self.lives.get(order.name)
        if known is not None and known.gone_at is None:
            return
        # A name may be born again after it was deleted: a late effect.
        key = order.name if known is None else f"{order.name} again at {now}"
        if known is not None:
            self.lives[key] = known
        hidden = self._bad(self.rate)
        visible_at = now + BLIND if hidden else now
        self.lives[order.name] = Life(order=order, born_at=now, visible_at=visible_at)

    def tick(self) -> None:
        now = self._world.now
        for entry in [entry for entry in self.coming if entry[0] <= now]:
            self.coming.remove(entry)
            self._bear(entry[1])
        for life in self.lives.values():
            if life.leaves_at is not None and life.leaves_at <= now:
                life.gone_at = life.gone_at or life.leaves_at

    def _life(self, name: str) -> Life | None:
        life = self.lives.get(name)
        if life is None or life.gone_at is not None or life.visible_at > self._world.now:
            return None
        return life

    def _told(self, name: str) -> Instance:
        life = self.lives[name]
        alive = life.fate is Fate.RUNNING
        return Instance(name=name, place=life.order.offer.place, alive=alive, fate=life.fate)

    def get(self, name: str) -> Instance:
        self._flaky()
        if self._life(name) is not None:
            return self._told(name)
        if name in self.failed:
            raise self.failed[name]
        raise InstanceNotFound(name, fate=self.over.get(name))

    def list(self) -> list[Instance]:
        self._flaky()
        return [self._told(name) for name in list(self.lives) if self._life(name)]

    def delete(self, name: str) -> None:
        self._flaky()
        life = self._life(name)
        self.failed.pop(name, None)
        if life is None:
            raise InstanceNotFound(name)
        if life.leaves_at is None:
            life.fate = Fate.ENDING
            life.leaves_at = self._world.now + timedelta(seconds=self._chance.choice([0, 20, 60]))

    # ── bad luck ───────────────────────────────────────────────────────────────────────────────

    def alive(self, name: str) -> bool:
        life = self.lives.get(name)
        return life is not None and life.gone_at is None and life.fate is Fate.RUNNING

    def take(self, name: str, fate: Fate) -> None:
        life = self.lives[name]
        if life.gone_at is not None:
            return
        if fate in {Fate.STOPPED, Fate.SUSPENDED}:
            life.fate = fate  # it stays, and costs
            return
        life.gone_at, self.over[name] = self._world.now, fate

    def cost_usd(self, now: datetime) -> float:
        lives = [(life.gone_at or now) - life.born_at for life in self.lives.values()]
        return sum(life.total_seconds() for life in lives) / 3600 * 3.60


@dataclass
class BadAgent:
    """An agent as it should be, in a network and on an instance that are not."""

    world: World
    cloud: BadCloud
    chance: random.Random
    name: str
    attempt: int
    boots_at: datetime
    seq: int = 0
    state: AgentState | None = None
    exit: Any = None
    heard_at: datetime | None = None
    beat_at: datetime | None = None
    told: Any = None
    cut_until: datetime | None = None
    dies_at: datetime | None = None
    preempted: bool = False
    ends_at: datetime | None = None
    over: bool = False

    def executes(self) -> bool:
        """Say whether the user's command runs here now."""
        return self.state is AgentState.RUNNING and self.exit is None and not self.over

    def tick(self) -> None:
        now = self.world.now
        if self.over or not self.cloud.alive(self.name):
            self.over = True
            return
        if self.state is None:
            self._enrol(now)
            return
        self._fortune(now)
        if self.heard_at is not None and now - self.heard_at >= AGENTS_SILENCE:
            self._stop()
        if self.state is AgentState.RUNNING and self.ends_at and now >= self.ends_at:
            self.exit = self.exit or an_exit(self.chance.choice([0, 0, 0, 3]))
        if self.dies_at is not None and now >= self.dies_at:
            self.cloud.take(self.name, Fate.PREEMPTED)
        elif (self.cut_until is None or now >= self.cut_until) and self._has_news(now):
            self._beat(now)

    def _fortune(self, now: datetime) -> None:
        if self.cloud.healed or self.dies_at is not None:
            return
        luck = self.chance.random()
        if luck < 0.01:
            self.preempted, self.dies_at = True, now + timedelta(seconds=30)
            self._stop()
        elif luck < 0.02:
            self.cut_until = now + timedelta(seconds=self.chance.choice([20, 60, 300]))
        elif luck < 0.025:
            self.cloud.take(self.name, self.chance.choice(TAKEN))

    def _has_news(self, now: datetime) -> bool:
        """Say whether it is time for a heartbeat; as the real one, at once when there is news."""
        news = (self.state, self.exit, self.preempted)
        if news == self.told and self.beat_at is not None and now < self.beat_at + BEAT:
            return False
        self.told, self.beat_at = news, now
        return True

    def _stop(self) -> None:
        if self.exit is None:
            self.exit = an_exit(143, stopped=True)

    def _enrol(self, now: datetime) -> None:
        if now < self.boots_at:
            return
        answer = self.world.instances.enrol(
            self.name,
            nonce="n" + self.name,
            token_sha256="t" + self.name,
            facts=some_facts(address="10.0.0.2"),
            now=now,
        )
        self.over = answer is not Enrolling.OK
        self.state, self.heard_at = AgentState.PREPARING, now

    def _beat(self, now: datetime) -> None:
        told = self._next_state()
        self.world.seqs[self.name] = self.seq
        members: dict[str, Any] = {"preempted": self.preempted}
        if self.exit is not None:
            members |= {"exit": self.exit, "outputs": () if told is AgentState.DONE else None}
        answer = self.world.beat(self.name, told, **members)
        self.seq = self.world.seqs[self.name]
        if answer.closed or answer.unknown:
            self.over = True
            return
        self.heard_at = now
        if answer.stop:
            self._stop()
        if told is AgentState.PREPARING:
            gang = "-" in self.name.removeprefix(f"cynthus-{RUN}-")
            self._go(AgentState.READY if gang else AgentState.RUNNING, now)
        elif told is AgentState.READY and answer.rendezvous is not None:
            self._go(AgentState.RUNNING, now)
        elif told is AgentState.DONE:
            self.over = True

    def _next_state(self) -> AgentState:
        if self.exit is None:
            assert self.state is not None
            return self.state
        told = AgentState.DONE if self.state is AgentState.UPLOADING else AgentState.UPLOADING
        self.state = told
        return told

    def _go(self, state: AgentState, now: datetime) -> None:
        self.state = state
        if state is AgentState.RUNNING:
            self.ends_at = now + timedelta(seconds=self.chance.choice([10, 60, 300]))


@dataclass
class History:
    """One run in a bad world, a few seconds a step, through servers that are killed and paused."""

    world: World
    cloud: BadCloud
    chance: random.Random
    budgets: BudgetStore
    agents: dict[str, BadAgent] = field(default_factory=dict)
    paused: list[tuple[datetime, Any]] = field(default_factory=list)
    most_alive: int = 0
    run: Run | None = None
    ordered: int = 0
    booked_usd: Decimal = Decimal(0)

    def live(self, limit: timedelta, heals_after: timedelta) -> None:
        """Let the run live until it is finished; what is bad ends after a while."""
        began_at = self.world.now
        while self.world.now < began_at + limit:
            self.cloud.healed = self.world.now >= began_at + heals_after
            self._turn()
            self._people()
            if self.check().state.value == "finished" and not self.paused:
                return
            self.world.now += timedelta(seconds=self.chance.choice([1, 3, 5]))

    def _turn(self) -> None:
        """Make every due pass; some servers die in it, and some sleep over what they decided."""
        world, now = self.world, self.world.now
        if self.run is None:
            self.run = world.run()
        for _, decision in [entry for entry in self.paused if entry[0] <= now]:
            world.reconciler._perform(decision)
        self.paused = [entry for entry in self.paused if entry[0] > now]
        for _ in range(20):
            due_at = world.runs.next_due(now)
            if due_at is None or due_at > now:
                return
            claims = world.runs.claim(limit=1, lease=timedelta(seconds=30), now=now)
            if not claims:
                return
            self.run = None  # it may change now, and at no other time
            luck = 1.0 if self.cloud.healed else self.chance.random()
            if luck > 0.08:
                world.reconciler._pass(claims[0])
                continue
            decision = world.reconciler._decision(claims[0], now)
            if luck < 0.02:
                continue  # killed before it saved: its lease runs out
            saved = world.runs.save(claims[0], decision, now)
            if saved and luck < 0.05:
                kept = decision.commands[: self.chance.randrange(len(decision.commands) + 1)]
                world.reconciler._perform(replace(decision, commands=kept))
            elif saved:  # a paused thread goes on a while later
                again_at = now + timedelta(seconds=self.chance.choice([5, 60, 200]))
                self.paused.append((again_at, decision))

    def _people(self) -> None:
        self.cloud.tick()
        for name, life in list(self.cloud.lives.items()):
            if life.gone_at is None and name not in self.agents and " " not in name:
                boots_at = life.born_at + timedelta(seconds=self.chance.choice([1, 20, 500]))
                if self.cloud.healed:
                    boots_at = self.world.now
                self.agents[name] = BadAgent(
                    self.world, self.cloud, self.chance, name, life.order.attempt, boots_at
                )
        for agent in self.agents.values():
            agent.tick()

    def check(self) -> Run:
        """Hold at every moment what must hold at every moment."""
        executing = {agent.attempt for agent in self.agents.values() if agent.executes()}
        assert len(executing) <= 1, f"two attempts execute: {executing}"
        changed = self.run is None
        run = self.run = self.run or self.world.run()
        names = {member.name for attempt in run.attempts for member in attempt.members}
        born = {name for name in self.cloud.lives if " " not in name}
        assert born <= names, "every instance was written down before it was ordered"
        alive = [life for life in self.cloud.lives.values() if life.gone_at is None]
        self.most_alive = max(self.most_alive, len(alive))
        if run.state.value == "finished":
            assert not alive, "finished means that nothing exists"
        if changed:
            self._check_money(run)
        return run

    def _check_money(self, run: Run) -> None:
        [budget] = self.budgets.of_repository(run.key.repository_id, self.world.now)
        assert budget.booked_usd <= budget.limit_usd, "booked is never more than the budget"
        if budget.booked_usd > self.booked_usd:
            assert len(run.attempts) > self.ordered, "what is booked rises only by an order"
        self.booked_usd, self.ordered = budget.booked_usd, len(run.attempts)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """One order, and whether the run might be ordered at that moment."""

    at: datetime
    allowed: bool


@dataclass
class GovernedHistory(History):
    """A history in which policies change, people approve or stay away, and ask for more time."""

    rules: tuple[RepositoryPolicy, ...] = ()
    held_at: datetime | None = None
    was_held: bool = False
    begun: list[Begun] = field(default_factory=list)
    asked: int = 0
    standing: RepositoryPolicy | None = None  # while the server decided

    def _turn(self) -> None:
        self.standing = self.world.rules
        super()._turn()

    def _people(self) -> None:
        super()._people()
        luck, run = self.chance.random(), self.run or self.world.run()
        if luck < 0.01 and not self.cloud.healed:
            self.world.govern(self.chance.choice(self.rules))
        self.world.away = not self.cloud.healed and self.chance.random() < 0.1
        if run.hold is not None and (self.cloud.healed or luck < 0.1):
            self.world.approve()
        if luck > 0.98:
            more = timedelta(minutes=self.chance.choice([1, 5, 60]))
            wish = Extension(key=f"comment/{self.asked}/0", by="ada", at=self.world.now, more=more)
            self.asked += 1
            self.world.runs.extend(RUN, wish)

    def check(self) -> Run:
        """Hold what must hold, and that nothing is ordered while somebody has yet to say yes."""
        before = len(self.begun)
        run = super().check()
        self.begun += [
            Begun(at=attempt.ordered_at, allowed=self._allowed(run, attempt))
            for attempt in run.attempts[before:]
        ]
        self.held_at = self.world.now if run.hold is not None else None
        self.was_held = self.was_held or run.hold is not None
        if run.approval is not None:
            spent = Decimal(self.cloud.cost_usd(self.world.now))
            assert spent <= run.approval.cap_usd, "what was approved bounds all attempts together"
        return run

    def _allowed(self, run: Run, attempt: Attempt) -> bool:
        """Say whether an order lies within the policy's lines, or somebody has approved it."""
        assert self.standing is not None
        assert run.spec is not None
        assert run.hold is None, "what is held is not ordered"
        line, need = self.standing.approval, granted(run.spec, run.grant).resources
        life_usd = price(attempt.offer.usd_per_hour, attempt.max_life)
        dear = line.cost_usd is not None and life_usd > line.cost_usd
        long = line.duration is not None and need.max_duration > line.duration
        return run.approval is not None or not (dear or long)
