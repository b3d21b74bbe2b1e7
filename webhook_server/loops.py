"""Compose the loops that change runs, publish them, and keep the fleet in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cynthus.envelope import Signature
from cynthus.frozen import replace
from cynthus.version import own_version
from webhook_server.advisor import Advisor
from webhook_server.baselines import Baselines
from webhook_server.bell import Bell
from webhook_server.data_keeper import DataKeeper, open_keeper
from webhook_server.listening import Listening
from webhook_server.metrics import LOOP_AGE, LOOP_OVERDUE
from webhook_server.observe import Eyes, no_hubs
from webhook_server.perform import Hands
from webhook_server.providers.metered import Metered
from webhook_server.providers.provider import PriceKeeper, Provider, ProviderRefusal
from webhook_server.providers.registry import Server, configured, open_provider
from webhook_server.reconcile import PARALLEL, Busy, Reconciler
from webhook_server.runs.model import Run
from webhook_server.runs.observations import DataSeen
from webhook_server.runs.policy import Policy, policy_of, within
from webhook_server.runs.provenance import Builder
from webhook_server.settings import Settings
from webhook_server.stores.blob_protocol import BlobStore, blob_key
from webhook_server.stores.budget_store import BudgetStore, limits_of
from webhook_server.stores.build_lease_store import BuildLeaseStore
from webhook_server.stores.checkpoint_shelf import ENDED_AT_ONCE, remove_ended
from webhook_server.stores.checkpoint_store import CheckpointStore
from webhook_server.stores.cool_down_store import CoolDownStore
from webhook_server.stores.database import CONTROL_PLANE, Database
from webhook_server.stores.environment_store import EnvironmentStore
from webhook_server.stores.event_store import EventStore
from webhook_server.stores.fleet_store import FleetStore
from webhook_server.stores.instance_store import InstanceStore
from webhook_server.stores.publication_store import PublicationStore
from webhook_server.stores.pull_store import PullStore
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.token_store import TokenStore
from webhook_server.stores.trail_store import TrailStore
from webhook_server.stores.warm_store import WarmStore
from webhook_server.sweep import Sweep
from webhook_server.warm_keeper import WarmKeeper
from webhook_server.workers import LONGEST_WAIT_S, Loop, run_loops

if TYPE_CHECKING:
    from webhook_server.github_api import GithubApi
    from webhook_server.github_side import GithubSide

log = logging.getLogger(__name__)

STOPPED_AFTER = timedelta(seconds=120)  # a step may upload a large asset's part; more is a fault
DRAIN_S = 8.0  # after `workers.STOP_S`, together below the 30 s that supervisors grant
_PRUNE_EVERY_S = 3600.0
_PRICES_EVERY_S = 86400.0  # list prices change over weeks, Spot prices once a month
_PRICES_AGAIN_S = 3600.0  # an estimate may be old; nothing waits for it


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the loops stand on."""

    settings: Settings
    key: bytes
    base_url: str
    database: Database
    bell: Bell
    let_door_go_first: Callable[[float], bool] = lambda _: False  # waits at most so many seconds
    blobs: BlobStore
    github: GithubSide | None
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    sign: Callable[[bytes], Signature] | None = None  # None: nothing is signed
    data: Callable[[Run], DataSeen] = no_hubs


def control_plane(database: Database, new_id: Callable[[], str]) -> str:
    """Return this control plane's own id, made once, by whichever of its servers comes first.

    With ids of their own each would take the others' instances for a stranger's: neither found
    nor deleted.
    """
    return database.state(CONTROL_PLANE) or database.keep_state(CONTROL_PLANE, new_id())


def open_providers(ground: Ground) -> dict[str, Provider]:
    """Return every provider that this server lends from. Raises: UserError."""
    server = Server(
        url=ground.base_url, control_plane=control_plane(ground.database, ground.new_id)
    )
    open_provider(ground.settings.provider, ground.settings, server)  # a wrong name ends the start
    names = configured(ground.settings)
    return {name: open_provider(name, ground.settings, server) for name in names}


@dataclass
class Running:
    """The loops at work."""

    loops: tuple[Loop, ...]
    providers: dict[str, Provider]
    bell: Bell
    now: Callable[[], datetime]
    drain: Callable[[float], bool]  # waits for passes under way
    swept: Callable[[], Iterable[tuple[str, dict[str, Any], float]]] = tuple
    stopping: threading.Event = field(default_factory=threading.Event)
    moved_at: dict[str, datetime] = field(default_factory=dict)
    expected_at: dict[str, datetime] = field(default_factory=dict)  # when it should move again
    drained: bool = True

    def start(self) -> None:
        """Run the loops in threads of their own."""
        watched = [replace(loop, step=self._watched(loop)) for loop in self.loops]
        self._thread = threading.Thread(
            target=run_loops, args=(watched, self.bell, self.stopping), name="loops"
        )
        self._thread.start()

    def _watched(self, loop: Loop) -> Callable[[], float]:
        self._moved(loop.name, 0)

        def step() -> float:
            wait_s = loop.step()
            self._moved(loop.name, wait_s)
            return wait_s

        return step

    def _moved(self, name: str, wait_s: float) -> None:
        now = self.now()
        self.moved_at[name] = now
        self.expected_at[name] = now + timedelta(seconds=min(max(wait_s, 0), LONGEST_WAIT_S))

    def stopped(self) -> tuple[str, ...]:
        """Return the names of loops that should have moved long ago."""
        now = self.now()
        return tuple(n for n, at in sorted(self.expected_at.items()) if now - at > STOPPED_AFTER)

    def ask_to_stop(self) -> None:
        """Let no further step begin."""
        self.stopping.set()

    def stop(self) -> None:
        """Let every step under way end, as far as the time goes."""
        self.ask_to_stop()
        self._thread.join()
        self.drained = self.drain(DRAIN_S)
        if not self.drained:
            log.warning("passes left unfinished, another server repeats them")


def open_loops(ground: Ground, providers: Mapping[str, Provider]) -> Running:
    """Return the loops, not yet running."""
    database, now = ground.database, ground.now
    keepers = [provider for provider in providers.values() if isinstance(provider, PriceKeeper)]
    providers = _metered(providers)
    runs, instances = RunStore(database), InstanceStore(database)
    reconciler = _reconciler(ground, providers, runs, instances)
    warm = WarmStore(database)
    sweep = Sweep(
        runs=runs,
        instances=instances,
        fleet=FleetStore(database),
        providers=providers,
        now=now,
    )
    loops = [
        Loop("reconcile", reconciler.step, "runs"),
        Loop("sweep", _spaced(sweep.step, now), "sweep"),
        Loop("warm", WarmKeeper(warm, providers, now).step, "warm"),
        Loop("prune", _spaced(_prune(ground), now), "prune"),
        Loop("data", _spaced(_keeper(ground).step, now), "data"),
    ]
    if keepers:
        loops.append(Loop("prices", _spaced(price_step(keepers, now), now), "prices"))
    if ground.github is not None or PublicationStore(database).next_due() is not None:
        # Without GitHub it only ends what an earlier server with GitHub left to be published.
        loops.append(Loop("publish", _publish_step(ground, providers, runs), "publications"))
    if ground.github is not None:
        loops.append(Loop("inbox", ground.github.inbox.step, "deliveries"))
        loops.append(Loop("redelivery", ground.github.redelivery.step, "redelivery"))
    return Running(tuple(loops), dict(providers), ground.bell, now, reconciler.drain, sweep.gauges)


def _metered(providers: Mapping[str, Provider]) -> dict[str, Provider]:
    return {name: Metered(provider) for name, provider in providers.items()}


def _reconciler(
    ground: Ground, providers: Mapping[str, Provider], runs: RunStore, instances: InstanceStore
) -> Reconciler:
    cool_downs = CoolDownStore(ground.database)
    policies = _policies(ground.settings, providers)
    eyes = Eyes(
        runs=runs,
        instances=instances,
        cool_downs=cool_downs,
        publications=PublicationStore(ground.database),
        providers=providers,
        default_provider=ground.settings.provider,
        listening_since=Listening(ground.now, time.monotonic).since,
        budgets=BudgetStore(ground.database, limits_of(ground.settings)).of_run,
        waiting=WarmStore(ground.database).waiting,
        gate=_baselines(ground, runs).gate_seen,
        policy=ground.github.policies.of_run if ground.github is not None else None,
        data=ground.data,
    )
    hands = Hands(
        instances=instances,
        cool_downs=cool_downs,
        providers=providers,
        policies=policies,
        server_key=ground.key,
        now=ground.now,
    )
    return Reconciler(
        runs=runs,
        eyes=eyes,
        hands=hands,
        policies=policies,
        bell=ground.bell,
        now=ground.now,
        pool=ThreadPoolExecutor(PARALLEL, thread_name_prefix="pass"),
        together=ThreadPoolExecutor(PARALLEL, thread_name_prefix="gang"),
        busy=Busy(),
        let_door_go_first=ground.let_door_go_first,
    )


def _baselines(ground: Ground, runs: RunStore) -> Baselines:
    return Baselines(
        runs=runs,
        events=EventStore(ground.database),
        environments=EnvironmentStore(ground.database),
    )


def _policies(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, Policy]:
    return {name: _policy(settings, name) for name in providers}


def _policy(settings: Settings, provider: str) -> Policy:
    policy = within(policy_of(provider), settings.max_duration)
    return replace(policy, build_limit=settings.build_limit)


def _publish_step(
    ground: Ground, providers: Mapping[str, Provider], runs: RunStore
) -> Callable[[], float]:
    # Imported late: GitHub's library is large, and many servers have no GitHub.
    from webhook_server.github_api import web_url
    from webhook_server.publish import Parts, Publisher
    from webhook_server.publish.parts import Keeping
    from webhook_server.publish.release_maker import ReleaseSources

    sources = ReleaseSources(
        events=EventStore(ground.database),
        blobs=ground.blobs,
        blob_key=blob_key,
        spec_text=runs.spec_text,
        environment=EnvironmentStore(ground.database).texts,
        builder=Builder(
            url=ground.base_url,
            version=own_version(),
            github_url=web_url(ground.settings.github_api_url),
        ),
        sign=ground.sign,
    )
    keeping = (
        Keeping(policy=ground.github.policies.of, baselines=_baselines(ground, runs))
        if ground.github is not None
        else None
    )
    publisher = Publisher(
        Parts(
            api=ground.github.api if ground.github else None,
            runs=runs,
            pulls=PullStore(ground.database),
            publications=PublicationStore(ground.database),
            repositories=RepositoryStore(ground.database),
            sources=sources,
            bell=ground.bell,
            url_of=lambda run_id: f"{ground.base_url}/runs/{run_id}",
            now=ground.now,
            advise=Advisor(providers).advise,
            keeping=keeping,
        )
    )
    return publisher.step


def _keeper(ground: Ground) -> DataKeeper:
    return open_keeper(ground.settings, ground.database, ground.blobs, ground.now)


_COLD = timedelta(days=1)  # a refusal of yesterday says nothing about today


def _prune(ground: Ground) -> Callable[[], float]:
    database, now = ground.database, ground.now
    tokens, cool_downs = TokenStore(database), CoolDownStore(database)
    build_leases, trail = BuildLeaseStore(database), TrailStore(database)
    months = ground.settings.trail_months
    checkpoints = CheckpointStore(database)
    kept_for = timedelta(days=ground.settings.checkpoint_days)

    def step() -> float:
        tokens.prune(now())
        cool_downs.prune(now() - _COLD)
        build_leases.prune(now() - _COLD)
        if months:
            trail.purge(months, now())
        # Last: a store of blobs that is away holds up nothing else.
        ended = remove_ended(checkpoints, ground.blobs, now() - kept_for)
        return _PRUNE_EVERY_S if ended < ENDED_AT_ONCE else 0.0

    return step


def price_step(keepers: Sequence[PriceKeeper], now: Callable[[], datetime]) -> Callable[[], float]:
    """Return the step that keeps prices fresh; while it fails, the old ones serve."""

    def step() -> float:
        for keeper in keepers:
            try:
                number = keeper.refresh_prices(now().date())
            except ProviderRefusal as refusal:
                log.warning("prices not refreshed, the old ones stay detail=%s", refusal)
                return _PRICES_AGAIN_S
            log.info("prices refreshed number=%d", number)
        return _PRICES_EVERY_S

    return step


def _spaced(step: Callable[[], float], now: Callable[[], datetime]) -> Callable[[], float]:
    """Return a step that does nothing until the wait that it asked for is over.

    The workers look at every loop at least each five seconds, which is right for runs and far
    too often for asking a cloud for its whole list.
    """
    due_at: list[datetime] = []

    def spaced() -> float:
        if not due_at or now() >= due_at[0]:
            due_at[:] = [now() + timedelta(seconds=step())]
        return max((due_at[0] - now()).total_seconds(), 0.0)

    return spaced


def gauges(
    running: Running | None, github: GithubSide | None
) -> list[tuple[str, dict[str, Any], float]]:
    """Return what /metrics tells of the loops."""
    found: list[tuple[str, dict[str, Any], float]] = []
    if running is not None:
        now = running.now()
        for name, at in sorted(running.moved_at.items()):
            overdue_s = max((now - running.expected_at[name]).total_seconds(), 0.0)
            found.append((LOOP_AGE.name, {"loop": name}, (now - at).total_seconds()))
            found.append((LOOP_OVERDUE.name, {"loop": name}, overdue_s))
        found.extend(running.swept())
    if github is not None:
        found.extend(_of_github(github.api, github.now()))
    return found


def _of_github(api: GithubApi, now: datetime) -> Iterable[tuple[str, dict[str, Any], float]]:
    """Yield what is asked of GitHub, and what each installation has left."""
    for request, count in sorted(api.sent().items()):
        yield "cynthus_github_requests_total", {"request": request}, count
    for installation, pace in sorted(api.paces().items()):
        label = {"installation": str(installation)}
        state, allowance = pace.state(), pace.allowance
        recent = sum(at > now - timedelta(hours=1) for at in state.content)
        yield "cynthus_github_content_writes_last_hour", label, recent
        paused_s = max((state.paused_until - now).total_seconds(), 0.0)
        yield "cynthus_github_paused_seconds", label, paused_s
        if allowance is not None:
            yield "cynthus_github_allowance", label, allowance.limit
            yield "cynthus_github_allowance_left", label, allowance.remaining
