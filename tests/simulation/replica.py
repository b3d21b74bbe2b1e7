"""One start of one replica: the server's own loops and stores, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cynthus.wire import Facts, Heartbeat
from tests.simulation.cloud import Port
from tests.simulation.scheduler import Crashed, Greenlets, Program, VirtualBell, VirtualEvent
from tests.simulation.sources import Sources
from webhook_server.observe import Eyes
from webhook_server.perform import Hands
from webhook_server.reconcile import Busy, Reconciler
from webhook_server.runs.policy import Policy
from webhook_server.stores.budget_store import BudgetStore
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.fleet_store import FleetStore
from webhook_server.stores.instance_store import BeatResult, Enrolling, InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.shared_clock import SharedClock
from webhook_server.stores.warm_store import WarmStore
from webhook_server.stores.writer import DatabaseUnavailable
from webhook_server.sweep import Sweep
from webhook_server.warm_keeper import WarmKeeper
from webhook_server.workers import Loop, run_loop

if TYPE_CHECKING:
    from tests.simulation.history import History

_LOG_LIMIT = 1 << 20


class Replica:
    """A server from its start to its death; the next start is another one on the same database."""

    def __init__(self, history: History, name: str, clock_error: float) -> None:
        self.history = history
        self.program = Program(name, clock_error=clock_error, may_crash=True)
        self.bell = VirtualBell(history.scheduler)
        self.stopping = VirtualEvent(history.scheduler)
        self.is_ready = False
        self.db = history.store.open(self._own_clock)
        self.now = self.db.now = SharedClock(self._own_clock, lambda: history.scheduler.now)
        self._numbers = itertools.count(1)
        self.runs = RunStore(self.db, self.new_token)
        self.instances = InstanceStore(self.db)
        self.publications = PublicationStore(self.db, self.new_token)
        self.warm = WarmStore(self.db)
        self.budgets = BudgetStore(self.db, history.scenario.budget)
        self.providers: dict[str, Any] = {
            cloud.name: Port(cloud, history.fates) for cloud in history.clouds
        }
        history.scheduler.spawn(self.program, self._boot)

    def _boot(self) -> None:
        """Start as the server does: without a database it ends, and is started again."""
        try:
            self.now.begin(self.db)
        except DatabaseUnavailable:
            self.history.scheduler.crash(self.program)
            raise Crashed from None
        for loop in self._loops(self.history.policies):
            self.start(loop)
        self.is_ready = True

    def _own_clock(self) -> datetime:
        """Return what this machine's clock shows."""
        return self.history.scheduler.moment(self.program.clock_error)

    def new_token(self) -> str:
        """Return what no other claim of any replica has."""
        return f"{self.program.name}-{next(self._numbers)}"

    def start(self, loop: Loop) -> None:
        """Run one of its loops, as its threads do."""
        self.history.scheduler.spawn(self.program, lambda: run_loop(loop, self.bell, self.stopping))

    # ── the doors, as routes have them ─────────────────────────────────────────────────────────

    def enrol(self, name: str, nonce: str, facts: Facts) -> Enrolling:
        """Take an agent's enrolment."""
        token = f"token-{name}-{nonce}"
        answer = self.instances.enrol(
            name, nonce=nonce, token_sha256=token, facts=facts, now=self.now()
        )
        self.bell.ring("runs")
        return answer

    def beat(self, token: str, beat: Heartbeat) -> BeatResult:
        """Take a heartbeat."""
        result = self.instances.heartbeat(token, beat, log_limit_bytes=_LOG_LIMIT, now=self.now())
        if result.news:
            self.bell.ring("runs")
        return result

    def next_work(self, token: str, machine: str) -> str | None:
        """Return the name under which a warm machine works on; "": it is over; None: not yet."""
        row = self.instances.by_token(token)
        if row is None:
            return ""
        kept = self.warm.of(row.name)
        if kept is None and row.closed_at is None:
            return None
        if kept is None or kept.machine != machine:
            return ""
        if kept.taken_by is not None:
            return kept.taken_by
        if kept.ended_at is not None:
            return ""
        self.warm.hear(row.name, self.now())
        return None

    # ── what runs by itself ────────────────────────────────────────────────────────────────────

    def _loops(self, policies: Mapping[str, Policy]) -> tuple[Loop, ...]:
        sweep = Sweep(
            runs=self.runs,
            instances=self.instances,
            fleet=FleetStore(self.db),
            providers=self.providers,
            now=self.now,
        )
        keeper = WarmKeeper(self.warm, self.providers, self.now)
        return (
            Loop("reconcile", self._reconciler(policies).step, "runs"),
            Loop("sweep", sweep.step, "sweep"),
            Loop("warm", keeper.step, "warm"),
            Loop("clock", lambda: self.now.step(self.db), "clock"),
        )

    def _reconciler(self, policies: Mapping[str, Policy]) -> Reconciler:
        greenlets = Greenlets(self.history.scheduler, self.program)
        cool_downs, began = CoolDownStore(self.db), self.now()
        return Reconciler(
            runs=self.runs,
            eyes=Eyes(
                runs=self.runs,
                instances=self.instances,
                cool_downs=cool_downs,
                publications=self.publications,
                providers=self.providers,
                default_provider=self.history.clouds[0].name,
                listening_since=lambda: began,
                budgets=self.budgets.of_run,
                waiting=self.warm.waiting,
                data=Sources(self.history.scheduler, self.history.fates).of_run,
            ),
            hands=Hands(
                instances=self.instances,
                cool_downs=cool_downs,
                providers=self.providers,
                policies=policies,
                server_key=b"k" * 32,
                now=self.now,
            ),
            policies=policies,
            bell=self.bell,  # type: ignore[arg-type] - the same three verbs
            now=self.now,
            pool=greenlets,
            together=greenlets,
            busy=Busy(),
            idle_s=self.history.scenario.idle_s,
        )
