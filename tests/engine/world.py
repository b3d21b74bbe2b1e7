"""A server's engine on a real database with a fake provider and a clock that the test steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cynthus.errors import Transient
from cynthus.repository_policy import RepositoryPolicy
from cynthus.wire import AgentState, Exit, Heartbeat, Output
from tests.builders import IMAGE, NOON, a_draft, a_key, some_facts
from tests.fake_provider import FakeProvider
from webhook_server.baselines import Baselines
from webhook_server.bell import Bell
from webhook_server.intents import Person
from webhook_server.listening import Listening
from webhook_server.observe import Eyes, no_hubs
from webhook_server.perform import Hands
from webhook_server.reconcile import Busy, Reconciler
from webhook_server.runs.approval import approve
from webhook_server.runs.model import Approval, Run, State
from webhook_server.runs.observations import DataSeen, ImageArrived, PolicySeen
from webhook_server.runs.policy import Policy
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.database import Database
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.fleet_store import FleetStore
from webhook_server.stores.heartbeats import BeatResult
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationState,
    PublicationStore,
)
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.warm_store import WarmStore
from webhook_server.sweep import Sweep
from webhook_server.warm_keeper import WarmKeeper

RUN = "arun00000001"


class Inline(Executor):
    """Runs every pass at once in the caller's thread: histories are the same every time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class World:
    """The outside stays when the server is killed; the server is made anew on the same file."""

    def __init__(self, url: str, policies: Mapping[str, Policy] | None = None) -> None:
        self.url = url
        self.now, self.jumped = NOON, timedelta(0)
        self.policies = policies or {}
        self.provider = FakeProvider(lambda: self.now)
        self.seqs: dict[str, int] = {}
        #: Of every repository; None: the server has no GitHub, and nobody has a policy.
        self.rules: RepositoryPolicy | None = None
        self.away = False  # GitHub is, and nothing was read before
        self.data: Callable[[Run], DataSeen] = no_hubs
        self.start()

    def elapsed_s(self) -> float:
        """Return what has passed, whatever the clock was set to meanwhile."""
        return (self.now - self.jumped - NOON).total_seconds()

    def jump(self, by: timedelta) -> None:
        """Let somebody set the clock of the server's machine."""
        self.now += by
        self.jumped += by

    def start(self) -> None:
        self.db = Database(self.url, now=lambda: self.now)
        self.db.migrate()
        self.runs = RunStore(self.db)
        self.instances = InstanceStore(self.db)
        self.events = EventStore(self.db)
        self.publications = PublicationStore(self.db)
        self.cool_downs = CoolDownStore(self.db)
        self.warm = WarmStore(self.db)
        self.bell = Bell()
        providers = self.providers = {"fake": self.provider}
        self.reconciler = Reconciler(
            runs=self.runs,
            eyes=Eyes(
                runs=self.runs,
                instances=self.instances,
                cool_downs=self.cool_downs,
                publications=self.publications,
                providers=providers,
                default_provider="fake",
                listening_since=Listening(lambda: self.now, self.elapsed_s).since,
                waiting=self.warm.waiting,
                policy=None if self.rules is None else self._policy,
                data=self._data,
                gate=Baselines(
                    runs=self.runs,
                    events=self.events,
                    environments=EnvironmentStore(self.db),
                ).gate_seen,
            ),
            hands=Hands(
                instances=self.instances,
                cool_downs=self.cool_downs,
                providers=providers,
                policies=self.policies,
                server_key=b"k" * 32,
                now=lambda: self.now,
            ),
            policies=self.policies,
            bell=self.bell,
            now=lambda: self.now,
            pool=Inline(),
            together=Inline(),
            busy=Busy(),
        )
        self.sweeper = Sweep(
            runs=self.runs,
            instances=self.instances,
            fleet=FleetStore(self.db),
            providers=providers,
            now=lambda: self.now,
        )
        self.keeper = WarmKeeper(self.warm, providers, lambda: self.now)

    def govern(self, rules: RepositoryPolicy) -> None:
        """Let the repositories have this policy from now on."""
        began, self.rules = self.rules is None, rules
        if began:
            eyes = replace(self.reconciler.eyes, policy=self._policy)
            self.reconciler = replace(self.reconciler, eyes=eyes)

    def _policy(self, run: Run) -> PolicySeen:  # noqa: ARG002 - all have the same
        if self.away or self.rules is None:
            raise Transient("the policy cannot be read now")
        return PolicySeen(policy=self.rules, read_at=self.now)

    def _data(self, run: Run) -> DataSeen:
        return self.data(run)

    def approve(self, run_id: str = RUN) -> None:
        """Say yes to what the run waits for, as a person with the right to it."""
        yes = approve(self.run(run_id), Person(id=5, login="ada", bot=False), self.now)
        assert isinstance(yes, Approval), yes
        self.runs.approve(run_id, yes)

    def restart(self) -> None:
        self.db.close()
        self.start()

    # ── people and programs ────────────────────────────────────────────────────────────────────

    def submit(self, run_id: str = RUN, **changes: Any) -> str:
        key = a_key(trigger=f"push/{run_id}")
        draft = a_draft(id=run_id, **({"key": key} | changes))
        arrived = ImageArrived(image=IMAGE, failure=None)
        return self.runs.accept(draft, arrived=arrived, token_id=None, now=self.now).run_id

    def step(self) -> float:
        return self.reconciler.step()

    def step_to_queued(self) -> None:
        """Make one pass only: the image has come, nothing is ordered."""
        [claim] = self.runs.claim(limit=1, lease=timedelta(minutes=1), now=self.now)
        self.reconciler._pass(claim)

    def wait(self, duration: timedelta, beats: bool = False) -> None:
        """Let time pass, a few seconds a step, with the loop turning (and the agents beating)."""
        end = self.now + duration
        while self.now < end:
            self.now = min(end, self.now + timedelta(seconds=5))
            if beats:
                for name in list(self.seqs):
                    self.beat(name)
            self.step()

    def name(self, run_id: str = RUN) -> str:
        attempt = self.run(run_id).attempt
        assert attempt is not None
        return attempt.instance

    def enrol(self, run_id: str = RUN) -> str:
        name = self.name(run_id)
        self.instances.enrol(
            name, nonce="n" + name, token_sha256="t" + name, facts=some_facts(), now=self.now
        )
        self.seqs[name] = 0
        return name

    def beat(self, name: str, state: AgentState = AgentState.RUNNING, **members: Any) -> BeatResult:
        self.seqs[name] = self.seqs.get(name, 0) + 1
        beat = Heartbeat(seq=self.seqs[name], sent_at=self.now, state=state, **members)
        return self.instances.heartbeat("t" + name, beat, log_limit_bytes=1 << 20, now=self.now)

    def finish_work(self, name: str, exit_: Exit, outputs: tuple[Output, ...] = ()) -> None:
        self.beat(name, AgentState.DONE, exit=exit_, outputs=outputs)

    def release(self) -> None:
        """Publish what is due as the publisher would."""
        claimed = self.publications.claim(20, timedelta(minutes=1), self.now)
        for item in claimed:
            self.publications.save(_published(item), self.now)

    # ── what is so ─────────────────────────────────────────────────────────────────────────────

    def run(self, run_id: str = RUN) -> Run:
        run = self.runs.get(run_id)
        assert run is not None
        return run

    def state(self, run_id: str = RUN) -> State:
        return self.run(run_id).state


def _published(item: Publication) -> Publication:
    if item.kind is PublicationKind.RELEASE:
        return replace(item, state=PublicationState.DONE, url="https://release", due_at=None)
    return replace(item, due_at=None)
