"""A stage for one conversation on GitHub: the server's own parts, a held clock, a cloud to lend."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from cynthus.spec import Resources, Spot
from cynthus.wire import AgentEvent, AgentState, EventKind, Exit, Heartbeat, Output
from tests.builders import a_draft, a_kept, some_facts
from tests.engine.world import Inline
from tests.fake_provider import FakeProvider
from tests.github_fixture import App, GithubSimulator, WebhookSink, github_simulator, webhook_sink
from tests.github_parts import IMAGE, Server, World, blob_key
from webhook_server.advisor import Advisor
from webhook_server.inbox import Inbox
from webhook_server.intents import Place
from webhook_server.observe import Eyes
from webhook_server.perform import Hands
from webhook_server.policies import Policies
from webhook_server.publish.places import Places
from webhook_server.reconcile import Busy, Reconciler
from webhook_server.runs.budget import BudgetLimits
from webhook_server.runs.lending import Offer
from webhook_server.runs.model import Run, State
from webhook_server.runs.observations import PolicySeen
from webhook_server.stores.budget_store import BudgetStore
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.warm_store import WarmStore

MORNING = datetime(2026, 6, 1, 9, tzinfo=UTC)
OWNER, REPO = "acme", "digits"
PEOPLE = {"ada": "write", "grace": "maintain", "mallory": "read"}
_PAUSE = timedelta(seconds=5)  # between two things that people do
_STEP = timedelta(minutes=1)  # a live instance is given up after three minutes without a beat
_PRICES = "the Cloud Billing Catalog of 2026-06-01"


def an_l4(**changes: Any) -> Offer:
    """Return an instance of Google Cloud with one L4."""
    given: dict[str, Any] = {
        "provider": "gcp",
        "place": "us-central1-a",
        "machine": "g2-standard-4",
        "gpu_type": "l4",
        "gpu_count": 1,
        "cpu": 4,
        "memory_bytes": 16 << 30,
        "usd_per_hour": Decimal("0.71"),
        "price_source": _PRICES,
    }
    return Offer(**(given | changes))


LENT = (
    an_l4(spot=True, usd_per_hour=Decimal("0.28")),
    an_l4(),
    an_l4(machine="n1-standard-4", gpu_type="t4", usd_per_hour=Decimal("0.54")),
    an_l4(machine="n1-standard-4", gpu_type="t4", usd_per_hour=Decimal("0.20"), spot=True),
)


class Cloud(FakeProvider):
    """Lends what is needed of a few kinds, the spot ones first where they are welcome."""

    def offers(self, need: Resources) -> list[Offer]:
        wanted = [one.type for one in need.gpu]
        found = [
            offer
            for offer in super().offers(need)
            if offer.gpu_type in wanted and (need.spot is not Spot.NEVER or not offer.spot)
        ]
        return sorted(found, key=lambda offer: (wanted.index(str(offer.gpu_type)), not offer.spot))


class StoryServer(Server):
    """All parts as the server's own program joins them, with the policy of the repository."""

    def restart(self) -> None:
        """Forget everything that is not in the database."""
        self.lender = Cloud(self.clock, "gcp")
        self.lender.lent = list(LENT)
        providers = {"gcp": self.lender}
        budgets = BudgetStore(self.db, BudgetLimits())
        self.planner = replace(
            self.planner, providers=providers, default_provider="gcp", budgets=budgets.of_repository
        )
        super().restart()
        ids = itertools.count(1)
        self.parts = replace(self.parts, new_id=lambda: f"run{next(ids):09}")
        self.inbox = Inbox(self.parts)
        self.advise = Advisor(providers).advise
        places = Places(self.api, self.repositories, self.clock)
        self.policies = Policies(self.api, self.parts.policies, places.find, self.clock)
        self.instances, began = InstanceStore(self.db), self.clock()
        self.reconciler = Reconciler(
            runs=self.runs,
            eyes=Eyes(
                runs=self.runs,
                instances=self.instances,
                cool_downs=CoolDownStore(self.db),
                publications=self.publications,
                providers=providers,
                default_provider="gcp",
                listening_since=lambda: began,
                budgets=budgets.of_run,
                waiting=WarmStore(self.db).waiting,
                gate=self.baselines.gate_seen,
                policy=self.policies.of_run,
            ),
            hands=Hands(
                instances=self.instances,
                cool_downs=CoolDownStore(self.db),
                providers=providers,
                policies={},
                server_key=b"k" * 32,
                now=self.clock,
            ),
            policies={},
            bell=self.bell,
            now=self.clock,
            pool=Inline(),
            together=Inline(),
            busy=Busy(),
        )

    def policy_of(self, place: Place) -> PolicySeen:
        """Return what the repository's default branch says."""
        return self.policies.of(place)


class Story(World):
    """One repository, its people, and whatever they do; time passes only by `wait`."""

    def __init__(
        self, github: GithubSimulator, server: StoryServer, sink: WebhookSink, folder: Path
    ):
        super().__init__(github, server, sink, folder)
        self.stage = server
        self.beats: dict[str, int] = {}
        server.clock.held_at = MORNING
        self._follow()
        server.restart()

    # ── time ────────────────────────────────────────────────────────────────────────────────────

    def _follow(self) -> None:
        """Put GitHub's clock where ours is."""
        shift = self.server.clock() - datetime.now(UTC)
        self.github.post("/clock", shift_s=shift.total_seconds())

    def wait(self, **time: float) -> None:
        """Let time pass: the loops turn, living agents beat."""
        left = timedelta(**time)
        while left > timedelta(0):
            step = min(left, _STEP)
            self.server.clock.ahead += step
            left -= step
            for name in self.beats:
                self._beat(name, AgentState.RUNNING)
            self.turn()
        self._follow()

    def turn(self) -> None:
        """Let every loop do what is due."""
        for _ in range(2):  # what is published may let a run go on
            self.stage.reconciler.step()
            self.stage.publisher.step()

    def hear(self) -> None:
        """Handle every webhook that GitHub has sent by now, and what follows from it."""
        answered, now = self.github.settled(self.server.app), self.server.clock()
        for delivery in self.sink.rest(answered):
            guid = delivery.headers["x-github-delivery"]
            stored = self.server.deliveries.store_async(guid, delivery.event, delivery.body, now)
            stored.result(60)
        self.server.inbox.step()
        self.turn()

    # ── people ──────────────────────────────────────────────────────────────────────────────────

    def pushes(self, branch: str, files: dict[str, str], **more: str) -> str:
        """Push a commit whose name is the same each time."""
        self.server.clock.ahead += _STEP
        self._follow()
        at = self.server.clock().isoformat()
        sha = self.push(files, branch=branch, at=at, **more)
        self._follow()
        return sha

    def opens(self, branch: str, title: str, **more: str) -> int:
        """Open a pull request; return its number."""
        wish = {"repo": self.repo, "head": branch, "title": title, "user": "ada"}
        made = self.github.post("/pulls", **(wish | more))
        self.hear()
        self.wait(seconds=5)
        return int(made["number"])

    def says(self, number: int, login: str, body: str) -> None:
        """Comment at a pull request, and let it be handled."""
        self.server.clock.ahead += _PAUSE  # surely later than the head
        self._follow()
        self.github.post("/comments", repo=self.repo, number=number, user=login, body=body)
        self.hear()
        self.wait(seconds=5)

    def presses(self, check_run_id: int, identifier: str, login: str) -> None:
        """Press a button of a check run."""
        path = f"/check-runs/{check_run_id}/press"
        self.github.post(path, identifier=identifier, user=login)
        self.hear()
        self.wait(seconds=5)

    # ── programs ────────────────────────────────────────────────────────────────────────────────

    def newest(self) -> Run:
        """Return the run that was made last."""
        [row] = self.server.runs.list(repository_id=None, limit=1, before=None)
        return self.run(row.id)

    def run(self, run_id: str) -> Run:
        found = self.server.runs.get(run_id)
        assert found is not None
        return found

    def builds(self, run: Run) -> None:
        """Tell that the Action has made a run's image."""
        draft = a_draft(
            id=run.id,
            key=run.key,
            repository=run.repository,
            spec=run.spec,
            spec_text=self.server.runs.spec_text(run.id),
            workflow_run_url=f"{self.github.url}/{self.repo}/actions/runs/101",
        )
        arrived = replace(IMAGE, environment=a_kept())
        now = self.server.clock()
        self.server.runs.accept(draft, arrived=arrived, token_id=None, now=now)
        self.turn()

    def boots(self, run: Run) -> str:
        """Let the agent of a run's newest instance enrol; return the instance."""
        attempt = self.run(run.id).attempt
        assert attempt is not None
        name = attempt.instance
        self.stage.instances.enrol(
            name,
            nonce="n" + name,
            token_sha256="t" + name,
            facts=some_facts(cpu_count=4, memory_bytes=16 << 30, driver="570.26"),
            now=self.server.clock(),
        )
        self.beats[name] = 0
        self._beat(name, AgentState.RUNNING)
        self.turn()
        return name

    def tells(self, name: str, *told: tuple[EventKind, dict[str, object]]) -> None:
        """Let an instance tell what its command says."""
        now = self.server.clock()
        events = tuple(AgentEvent(at=now, kind=kind, body=body) for kind, body in told)
        self._beat(name, AgentState.RUNNING, events=events)

    def ends(self, name: str, run: Run, files: dict[str, bytes], code: int = 0) -> None:
        """Let the command end with these outputs, and the run come to its end."""
        number = int(name.rpartition("-")[2])
        outputs = []
        for path, data in files.items():
            key = blob_key(run.key.repository_id, run.id, number, path)
            self.server.shelf.blobs[key] = data
            digest = hashlib.sha256(data).hexdigest()
            outputs.append(Output(path=path, size_bytes=len(data), sha256=digest))
        self._beat(name, AgentState.DONE, exit=Exit(code=code), outputs=tuple(outputs))
        del self.beats[name]
        self.turn()
        self.wait(minutes=2)
        assert self.run(run.id).state is State.FINISHED, self.run(run.id).reason

    def preempts(self, name: str) -> None:
        """Take an instance back as the cloud does."""
        self._beat(name, AgentState.RUNNING, preempted=True)
        del self.beats[name]
        self.stage.lender.instances.pop(name)
        self.turn()

    def _beat(self, name: str, state: AgentState, **members: Any) -> None:
        self.beats[name] += 1
        now = self.server.clock()
        beat = Heartbeat(seq=self.beats[name], sent_at=now, state=state, **members)
        result = self.stage.instances.heartbeat("t" + name, beat, log_limit_bytes=1 << 20, now=now)
        assert not result.unknown


@contextmanager
def telling(folder: Path) -> Iterator[Story]:
    """Stand up a story in a folder; everything ends with the block."""
    with github_simulator(folder / "github") as github, webhook_sink() as sink:
        app = github.create_app(webhook_url=sink.url)
        with _server(github, app, folder / "server") as server:
            story = Story(github, server, sink, folder)
            github.post("/owners", login=OWNER)
            for login in PEOPLE:
                github.post("/users", login=login)
            github.post("/repos", owner=OWNER, name=REPO, open=True)
            for login, role in PEOPLE.items():
                path = f"/repos/{story.repo}/collaborators/{login}"
                github.sim("PUT", path, {"permission": role})
            github.post("/installations", app_id=app.id, owner=OWNER)
            yield story


@contextmanager
def _server(github: GithubSimulator, app: App, folder: Path) -> Iterator[StoryServer]:
    folder.mkdir(parents=True)
    server = StoryServer(github, app, OWNER, folder)
    try:
        yield server
    finally:
        server.close()
