"""One history: replicas, clouds, agents and people on one database, until all is over."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from cynthus.errors import Transient
from cynthus.spec import Resources, Retry
from cynthus.wire import Output
from tests.builders import IMAGE, a_draft, a_key, a_spec
from tests.simulation.agent import Agent
from tests.simulation.cloud import Cloud, Machine, Moods
from tests.simulation.ended import Ended
from tests.simulation.fates import Fates
from tests.simulation.guard import guarded
from tests.simulation.record import Record
from tests.simulation.replica import Replica
from tests.simulation.scenario import LONGEST_PAUSE_S, Mode, Scenario, Wanted
from tests.simulation.scheduler import Program, Scheduler, Unanswered
from tests.simulation.sources import ENTRY
from tests.simulation.store import Store
from webhook_server.runs.model import State
from webhook_server.runs.observations import ImageArrived
from webhook_server.runs.policy import Policy

DOOR_TIMEOUT_S = 10.0  # of agents and people, whatever their server does
_LOOK_S = 20.0  # how often the referee looks whether all is over
_PASS_S = 5.0  # what a woken replica was about is over within this
_RESTART_S = 60.0  # a supervisor starts a dead replica again within this
_PEOPLE_S = 15.0  # people and CI try again after this


class History:
    """Builds a world from a scenario and lets it live."""

    replica: type[Replica] = Replica

    def __init__(self, scenario: Scenario, store: Store) -> None:
        self.scenario, self.store = scenario, store
        self.scheduler = Scheduler(scenario.seed)
        self.record = Record()
        self.fates = Fates(
            self.scheduler,
            self.record,
            seed=scenario.seed,
            plans=scenario.plans,
            off=scenario.off,
            by_chance=scenario.by_chance,
        )
        self.fates.most = scenario.most
        self.chance = random.Random(f"{scenario.seed}/people")
        self.outside = Program("outside")
        self.policies: dict[str, Policy] = dict.fromkeys(("near", "far"), scenario.policy)
        self.clouds = [self._cloud("near", scenario.moods)]
        if scenario.far is not None:
            self.clouds.append(self._cloud("far", scenario.far))
        self.replicas: dict[str, Replica] = {}
        self.agents: dict[str, Agent] = {}  # by machine: of its newest boot
        self.is_over = False
        self.is_dead = False  # the control plane is, for ever
        self._damaged: list[tuple[str, str]] = []  # what rows said before: body, run
        self._starts = 0
        store.begin(self.scheduler, self.fates)
        self.scheduler.on_crash = self._crashed

    def live(self) -> Ended:
        """Let it live until all is over, or its time is."""
        self._plan_people()
        with _listening(_Listener(self)), guarded():
            self.scheduler.run(self.scenario.limit)
            if self.is_dead:
                self.scheduler.run(float("inf"))  # until the last machine has ended itself
            ended_at = self.scheduler.now
            self.scheduler.close()
        return Ended(
            scenario=self.scenario,
            record=self.record,
            rows=dump(self.store),
            ended_at=ended_at,
            calls=self.fates.calls,
            injected=self.fates.injected,
            faults=tuple(self.scheduler.faults),
            is_over=self.is_over,
        )

    def ask(self, question: Callable[[Replica], Any]) -> Any:
        """Have some replica answer, as a load balancer would. Raises: Unanswered."""
        alive = [one for one in self.replicas.values() if one.program.alive and one.is_ready]
        if not alive:
            self.scheduler.sleep(1.0)
            raise Unanswered("no replica lives")
        replica = alive[0] if len(alive) == 1 else self.chance.choice(alive)
        try:
            return self.scheduler.ask(replica.program, lambda: question(replica), DOOR_TIMEOUT_S)
        except Transient as error:  # the door says 503
            raise Unanswered(str(error)) from error

    # ── what is planned ────────────────────────────────────────────────────────────────────────

    def _plan_people(self) -> None:
        scenario = self.scenario
        for number in range(scenario.replicas):
            self._later(number * 0.1, lambda n=number: self._start(f"r{n + 1}"))
        for wanted in scenario.wanted:
            self._later(wanted.at, lambda w=wanted: self._submit(w))
            if wanted.cancel_at is not None:
                self._later(wanted.cancel_at, lambda w=wanted: self._cancel(w))
        if scenario.mode is Mode.LIVENESS:
            self.fates.heals_at = scenario.heals_at
            self._later(scenario.heals_at, self._heal)
        if scenario.dies_at is not None:
            self._later(scenario.dies_at, self._die)
        if scenario.poison_at is not None:
            self._later(scenario.poison_at, self._poison)
        self._plan_written()
        if scenario.stray:
            self._later(
                self.chance.random() * 60, lambda: self.clouds[0].bear("stray", "here", 3600.0)
            )
        for rate, what in ((scenario.pauses, self._pause), (scenario.kills, self._kill)):
            if rate:
                self.scheduler.spawn(self.outside, lambda r=rate, w=what: self._trouble(r, w))
        self.scheduler.spawn(self.outside, self._referee)

    def _plan_written(self) -> None:
        """Plan what is written down of a history, beside its calls' fates."""
        for at, name in self.scenario.notices:
            self._later(at, lambda n=name: self._notify(n))
        for at, name, nap_s in self.scenario.naps:
            self._later(at, lambda n=name, s=nap_s: self._pause(self.replicas[n], s))

    def _later(self, after: float, what: Callable[[], Any]) -> None:
        self.scheduler.spawn(self.outside, what, after=after)

    def _cloud(self, name: str, moods: Moods) -> Cloud:
        return Cloud(
            name=name,
            scheduler=self.scheduler,
            record=self.record,
            chance=random.Random(f"{self.scenario.seed}/{name}"),
            moods=moods,
            on_birth=self._born,
        )

    def outputs_of(self, _run_id: str, _attempt: int) -> tuple[Output, ...]:
        """Return the files that an attempt has made and stored."""
        return ()

    def _born(self, cloud: Cloud, machine: Machine) -> None:
        self.agents[machine.uid] = Agent(self, cloud, machine)

    # ── replicas ───────────────────────────────────────────────────────────────────────────────

    def _start(self, name: str) -> None:
        if self.is_dead:
            return
        self._starts += 1
        self.record.fact(self.scheduler.now, "replica.started", name)
        error = self.scenario.clock_errors[int(name[1:]) - 1]
        self.replicas[name] = self.replica(self, name, error)

    def _crashed(self, program: Program) -> None:
        if program.name not in self.replicas:
            return
        self.record.fact(self.scheduler.now, "replica.died", program.name)
        if not self.is_dead:
            self._later(self.chance.random() * _RESTART_S, lambda: self._start(program.name))

    def _alive(self) -> list[Replica]:
        return [one for one in self.replicas.values() if one.program.alive]

    def _trouble(self, rate: float, what: Callable[[Replica], None]) -> None:
        """Bring trouble about, so often a minute, until the world heals."""
        while self.scheduler.now < self.fates.heals_at:
            self.scheduler.sleep(self.chance.expovariate(rate / 60.0))
            alive = self._alive()
            if alive and self.scheduler.now < self.fates.heals_at:
                what(self.chance.choice(alive))

    def _pause(self, replica: Replica, nap_s: float | None = None) -> None:
        nap_s = self.chance.random() * LONGEST_PAUSE_S if nap_s is None else nap_s
        replica.program.asleep_until = self.scheduler.now + nap_s
        self.record.fact(self.scheduler.now, "replica.paused", replica.program.name)

    def _kill(self, replica: Replica) -> None:
        self.scheduler.crash(replica.program)

    def _notify(self, name: str) -> None:
        """Tell a machine, if it is there, that its owner wants it back."""
        if name in self.agents:
            self.agents[name].be_taken()

    def _die(self) -> None:
        self.is_dead = True
        for replica in self._alive():
            self.scheduler.crash(replica.program)

    def _poison(self) -> None:
        """Damage a row that every pass over a run reads: no pass over it can succeed."""
        found = self.store.rows("SELECT id FROM runs ORDER BY seq LIMIT 1")
        if not found:
            return  # whoever wants runs has wanted none yet
        [(first,)] = found
        image = "WHERE run_id = ? AND kind = 'image'"
        self._damaged = self.store.rows(f"SELECT body, run_id FROM wishes {image}", first)
        self.store.rows(f"UPDATE wishes SET body = '0' {image}", first)

    def _heal(self) -> None:
        for row in self._damaged:
            self.store.rows("UPDATE wishes SET body = ? WHERE run_id = ? AND kind = 'image'", *row)
        for cloud in self.clouds:
            cloud.healed = True
        self.record.fact(self.scheduler.now, "world.healed", "")

    # ── people ─────────────────────────────────────────────────────────────────────────────────

    def _submit(self, wanted: Wanted) -> None:
        need = Resources(
            nodes=wanted.nodes,
            provider=wanted.provider if self.scenario.far is not None else None,
            max_duration=timedelta(minutes=5),
        )
        spec = a_spec(
            resources=need,
            outputs=(),
            retry=Retry(3),
            keep_warm=timedelta(seconds=wanted.warm_s),
            data=(ENTRY,) if wanted.data else (),
        )
        key = a_key(trigger=f"push/{wanted.id}")
        draft = a_draft(id=wanted.id, key=key, spec=spec, wants_release=False)
        arrived = ImageArrived(image=IMAGE, failure=None)

        def accept(replica: Replica) -> None:
            replica.runs.accept(draft, arrived=arrived, token_id=None, now=replica.now())
            replica.bell.ring("runs")

        self._insist(accept)

    def _cancel(self, wanted: Wanted) -> None:
        def cancel(replica: Replica) -> None:
            replica.runs.cancel(wanted.id, "ada", replica.now())
            replica.bell.ring("runs")

        self._insist(cancel)

    def _insist(self, question: Callable[[Replica], None]) -> None:
        while not self.is_dead:
            try:
                self.ask(question)
            except Unanswered:
                self.scheduler.sleep(_PEOPLE_S)
            else:
                return

    def _referee(self) -> None:
        """End the history once everything has come to its end."""
        while True:
            self.scheduler.sleep(_LOOK_S)
            if self._is_over():
                self.is_over = True
                self.scheduler.stop()
                return  # where nobody else is due, time would pass for this look alone, for ever

    def _is_over(self) -> bool:
        # What is still to come may find everything over: just that is to be seen.
        woken = max((one.program.asleep_until for one in self._alive()), default=0.0)
        if self.fates.is_pending() or self.scheduler.now < woken + _PASS_S:
            return False
        if any(cloud.alive() for cloud in self.clouds):
            return False
        if self.is_dead:
            return self.scheduler.now > (self.scenario.dies_at or 0) + 130
        runs = self.store.rows("SELECT state FROM runs")
        if len(runs) < len(self.scenario.wanted):
            return False
        if any(state != State.FINISHED for (state,) in runs):
            return False
        waiting = "SELECT 1 FROM kept_instances WHERE gone_at IS NULL AND taken_by IS NULL"
        return not self.store.rows(waiting)


def dump(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the oracles read of the database, past all fates."""
    return {
        "runs": store.rows("SELECT id, state, outcome, cost_usd, finished_at, doc FROM runs"),
        "instances": store.rows(
            "SELECT name, run_id, attempt, ordered_at, closed_at, heartbeat_seq FROM instances"
        ),
        "states": store.rows(
            "SELECT run_id, attempt, at, json_extract(body, '$.state'),"
            " json_extract(body, '$.outcome'), json_extract(body, '$.cause')"
            " FROM events WHERE kind = 'state' ORDER BY seq"
        ),
        "kept": store.rows(
            "SELECT kept_by, machine, taken_by, ended_at, gone_at, booked_microusd"
            " FROM kept_instances"
        ),
        "seen_runs": store.rows("SELECT * FROM seen_runs ORDER BY rowid"),
        "seen_kept": store.rows("SELECT at, after, kept_by, booked FROM seen_kept ORDER BY rowid"),
        "seen_instances": store.rows("SELECT * FROM seen_instances ORDER BY rowid"),
    }


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    """Let a handler hear what the server logs, and nobody else.

    Without what nobody asks of a line, such as where it was written:
    https://docs.python.org/3/howto/logging.html#optimization
    """
    log = logging.getLogger("webhook_server")
    level, propagates = log.level, log.propagate
    asked = {name: getattr(logging, name) for name in _UNASKED}
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    for name in _UNASKED:
        setattr(logging, name, None)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates
        for name, value in asked.items():
            setattr(logging, name, value)


_UNASKED = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")


class _Listener(logging.Handler):
    """Keeps what the server logs: its templates are marks of what was reached."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        words = " ".join(str(one) for one in record.args or ())
        line = (self._history.scheduler.now, str(record.msg), f"{words} {fault}".strip())
        self._history.record.said.append(line)
