"""The server's GitHub side on a real database, against a simulator of one's own."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from cynthus.errors import Transient
from cynthus.repository_policy import RepositoryPolicy
from cynthus.wire import EventKind, Output
from tests.builders import an_attempt
from tests.fake_provider import FakeProvider
from tests.github_fixture import App, GithubSimulator, WebhookSink
from tests.memory import fast_disk
from webhook_server.auth.allowed import Allowed
from webhook_server.baselines import Baselines
from webhook_server.bell import Bell
from webhook_server.github_api import AppHooks, AppSettings, GithubApi
from webhook_server.inbox import Inbox, InboxParts, Redelivery
from webhook_server.inbox.plans import Plans
from webhook_server.inbox.reading import Reader
from webhook_server.intents import Place
from webhook_server.planning import Planner
from webhook_server.publish import Parts, Publisher
from webhook_server.publish.parts import Keeping, no_advice
from webhook_server.publish.release_maker import ReleaseSources
from webhook_server.runs.budget import BudgetLimits
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Cause, Outcome, Reason, Run, SpecFault, State
from webhook_server.runs.observations import ImageArrived, PolicySeen
from webhook_server.runs.sizing import Advice
from webhook_server.runs.usage import Usage
from webhook_server.stores.budget_store import BudgetStore
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.database import Database
from webhook_server.stores.delivery_store import DeliveryStore
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.history_store import HistoryStore
from webhook_server.stores.policy_store import PolicyStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.pull_store import PullStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.warm_store import WarmStore

SPEC = """version: 1
name: digits
run: python train.py
outputs:
  - path: outputs/model
"""


class Clock:
    """The real time, moved on by hand: GitHub's side lives in the real one.

    `held_at`: a moment at which it stands still between the steps; GitHub's has to follow it.
    """

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self.held_at: datetime | None = None

    def __call__(self) -> datetime:
        return (self.held_at or datetime.now(UTC)) + self.ahead

    def pass_by(self, **time: float) -> None:
        self.ahead += timedelta(**time)


@dataclass
class Shelf:
    """A blob store in memory."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def open(self, key: str) -> BinaryIO | None:
        return io.BytesIO(self.blobs[key]) if key in self.blobs else None


def blob_key(repository_id: int, run_id: str, attempt: int, path: str) -> str:
    return f"{repository_id}/{run_id}/{attempt}/{path}"


def page_of(run_id: str) -> str:
    return f"https://cynthus.test/runs/{run_id}"


class Server:
    """All parts, stepped by the test."""

    def __init__(
        self,
        github: GithubSimulator,
        app: App,
        owner: str,
        folder: Path,
        spacing: timedelta = timedelta(0),
    ) -> None:
        self.owner, self.spacing = owner, spacing
        self.github, self.clock, self.bell = github, Clock(), Bell()
        self.waited: list[float] = []
        self.policy: RepositoryPolicy | None = RepositoryPolicy()
        self.policy_faults: tuple[SpecFault, ...] = ()
        self.folder = TemporaryDirectory(prefix="cynthus-server-", dir=fast_disk(folder))
        self.db = Database(f"sqlite:///{self.folder.name}/cynthus.db", now=self.clock)
        self.db.migrate()
        self.runs, self.events = RunStore(self.db), EventStore(self.db)
        self.deliveries = DeliveryStore(self.db)
        self.publications = PublicationStore(self.db)
        self.repositories = RepositoryStore(self.db)
        self.pulls = PullStore(self.db)
        self.baselines = Baselines(
            runs=self.runs, events=self.events, environments=EnvironmentStore(self.db)
        )
        self.shelf = Shelf()
        self.lender = FakeProvider(self.clock)
        self.planner = Planner(
            providers={self.lender.name: self.lender},
            default_provider=self.lender.name,
            longest=timedelta(days=7),
            budgets=BudgetStore(self.db, BudgetLimits()).of_repository,
            cooling=CoolDownStore(self.db).current,
            now=self.clock,
        )
        self.advise: Callable[[Run, Usage], Advice | None] = no_advice
        self.app = app
        self.restart()

    def restart(self) -> None:
        """Forget everything that is not in the database."""
        self.api = GithubApi(
            AppSettings(
                api_url=self.github.api_url,
                uploads_url="",
                app_id=str(self.app.id),
                private_key=self.app.pem,
                write_spacing=self.spacing,
            ),
            now=self.clock,
            wait=self.waited.append,
        )
        self.plans = Plans(self.planner, HistoryStore(self.db))
        ids = itertools.count(1)
        begun = int(self.clock().timestamp() * 1000) % 10**9
        self.parts = InboxParts(
            api=self.api,
            deliveries=self.deliveries,
            runs=self.runs,
            pulls=self.pulls,
            publications=self.publications,
            repositories=self.repositories,
            events=self.events,
            warm=WarmStore(self.db),
            policy=self.policy_of,
            policies=PolicyStore(self.db),
            answer=Reader(self.plans, self.baselines).answer,
            make_plan=self.plans.make,
            url_of=page_of,
            allowed=Allowed((self.owner,), state=self.db.state, keep_state=self.db.keep_state),
            bell=self.bell,
            now=self.clock,
            new_id=lambda: f"r{begun}{next(ids)}",
        )
        self.inbox = Inbox(self.parts)
        self.redelivery = Redelivery(AppHooks(self.api.app), self.deliveries, self.db, self.clock)
        self.publisher = Publisher(
            Parts(
                api=self.api,
                runs=self.runs,
                pulls=self.pulls,
                publications=self.publications,
                repositories=self.repositories,
                sources=ReleaseSources(
                    events=self.events,
                    blobs=self.shelf,
                    blob_key=blob_key,
                    spec_text=self.runs.spec_text,
                    environment=EnvironmentStore(self.db).texts,
                ),
                bell=self.bell,
                url_of=page_of,
                now=self.clock,
                advise=self._advice,
                keeping=Keeping(policy=self.policy_of, baselines=self.baselines),
            ),
            spawn=lambda work: work(),
        )

    def policy_of(self, _: Place) -> PolicySeen:
        """Return what the test says stands in the repository's policy file."""
        if self.policy is None:
            raise Transient("GitHub cannot be asked for the policy.")
        return PolicySeen(policy=self.policy, read_at=self.clock(), faults=self.policy_faults)

    def _advice(self, run: Run, usage: Usage) -> Advice | None:
        return self.advise(run, usage)

    def deliver(self, guid: str, event: str, body: bytes) -> None:
        self.deliveries.store_async(guid, event, body, self.clock()).result(60)
        self.inbox.step()

    def change(self, run_id: str, change: Callable[[Run], Run]) -> Run:
        """Save a run as the loop would."""
        now = self.clock()
        self.runs.wake(run_id, now)
        claims = self.runs.claim(limit=100, lease=timedelta(seconds=30), now=now)
        for claim in claims:
            if claim.run.id != run_id:
                self.runs.release(claim)
        claim = next(claim for claim in claims if claim.run.id == run_id)
        run = change(claim.run)
        assert self.runs.save(claim, Decision(run=run), now)
        return run

    def to_state(self, run_id: str, state: State, **changes: Any) -> Run:
        now = self.clock()

        def change(run: Run) -> Run:
            from dataclasses import replace

            given = {
                "state": state,
                "state_since": now,
                "reason": Reason(cause=Cause.PROGRESS, text=f"it is {state.value}"),
            }
            return replace(run, **(given | changes))

        return self.change(run_id, change)

    def run_to_outputs(self, run_id: str, files: dict[str, bytes]) -> Run:
        """Bring a run to `releasing`, with outputs in the store."""
        now = self.clock()
        run = self.runs.get(run_id)
        assert run is not None
        for path, data in files.items():
            key = blob_key(run.key.repository_id, run.id, 1, path)
            self.shelf.blobs[key] = data
        outputs = tuple(
            Output(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in files.items()
        )
        attempt = an_attempt(ordered_at=now, started_at=now, names=(f"cynthus-{run_id}-1",))
        return self.to_state(
            run_id,
            State.RELEASING,
            outcome=Outcome.SUCCEEDED,
            outputs=outputs,
            attempts=(attempt,),
            image="registry.test/digits@sha256:" + "a" * 64,
        )

    def finish(self, run_id: str, outcome: Outcome = Outcome.SUCCEEDED) -> Run:
        return self.to_state(
            run_id,
            State.FINISHED,
            outcome=outcome,
            finished_at=self.clock(),
            reason=Reason(cause=Cause.EXIT, text="the command ended with exit code 0"),
        )

    def tell(self, run_id: str, kind: EventKind, **body: object) -> None:
        self.events.append(run_id, 1, kind, body, self.clock())

    def close(self) -> None:
        self.db.close()
        self.folder.cleanup()


class World:
    """One simulated GitHub with one repository, and a server beside it."""

    def __init__(self, github: GithubSimulator, server: Server, sink: WebhookSink, folder: Path):
        self.github, self.server, self.sink, self.folder = github, server, sink, folder
        self.repo = f"{server.owner}/digits"

    def push(self, files: dict[str, str], **more: str) -> str:
        return self.github.push(self.folder / "work", files, **({"to": self.repo} | more))

    def pass_on(self, name: str) -> Any:
        """Give the next webhook of this name to the server's inbox."""
        delivery = self.sink.wait_for(name)
        guid = delivery.headers["x-github-delivery"]
        self.server.deliver(guid, delivery.event, delivery.body)
        return delivery

    def a_run(self, files: dict[str, str] | None = None) -> Run:
        self.push(files or {"cynthus.yaml": SPEC, "train.py": "print()\n"})
        self.pass_on("push")
        rows = self.server.runs.list(repository_id=None, limit=1, before=None)
        run = self.server.runs.get(rows[0].id)
        assert run is not None
        return run

    def check_runs(self, sha: str) -> list[Any]:
        client = self.github.client(self.server.app, self.installation)
        return list(client.get_repo(self.repo).get_commit(sha).get_check_runs())

    def releases(self) -> list[Any]:
        return list(self.client.get_repo(self.repo).get_releases())

    @property
    def installation(self) -> int:
        app = self.github.integration(self.server.app)
        return int(app.get_repo_installation(self.server.owner, "digits").id)

    @property
    def client(self) -> Any:
        return self.github.client(self.server.app, self.installation)

    def requests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.github.sim("GET", "/requests")
        return found

    def forget_requests(self) -> None:
        self.github.sim("DELETE", "/requests")

    def fault(self, **wish: Any) -> None:
        self.github.post("/faults", **wish)


@contextmanager
def a_server(github: GithubSimulator, app: App, owner: str, folder: Path) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(github, app, owner, folder)
    try:
        yield server
    finally:
        server.close()


IMAGE = ImageArrived(image="registry.test/digits@sha256:" + "a" * 64, failure=None)
