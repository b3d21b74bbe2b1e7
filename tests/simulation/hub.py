"""A history with GitHub: its webhooks and people beside the cloud and the agents."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, BinaryIO

from cynthus.wire import Output
from tests.simulation.fates import LATEST_S
from tests.simulation.github import Github, Sent
from tests.simulation.github_half import GithubHalf, Ground, open_half
from tests.simulation.github_history import Beat, GithubHistory, Published, RunSeen
from tests.simulation.github_rest import manifest_of
from tests.simulation.history import Ended, History
from tests.simulation.hub_scenario import HubScenario
from tests.simulation.people import People
from tests.simulation.replica import Replica
from tests.simulation.scenario import LONGEST_PAUSE_S, Mode
from tests.simulation.scheduler import EPOCH, Greenlets, Unanswered
from tests.simulation.store import Store
from tests.simulation.webhooks import NO_ANSWER, Webhooks
from webhook_server.policies import Policies
from webhook_server.reconcile import Reconciler
from webhook_server.runs.policy import Policy
from webhook_server.stores.blob_protocol import blob_key
from webhook_server.workers import Loop

#: What is settled must stay so for longer than a loop may take to see what a lost ring told of.
_QUIET_S = 30.0
#: A beat takes effect so long after its call at most: late, at a door of a replica that is paused.
_BEAT_S = LATEST_S + LONGEST_PAUSE_S + 60.0
_BUILD_LIMIT = timedelta(minutes=30)
_DATA = b"weights of "


@dataclass
class Shelf:
    """The outputs of all attempts."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def open(self, key: str) -> BinaryIO | None:
        """Return the blob for reading."""
        return io.BytesIO(self.blobs[key]) if key in self.blobs else None


class HubReplica(Replica):
    """A replica that is a GitHub App's back end."""

    history: HubHistory
    half: GithubHalf

    def new_run_id(self) -> str:
        """Return an id that no other run has."""
        return self.history.new_run_id()

    def _loops(self, policies: Any) -> tuple[Loop, ...]:
        scheduler = self.history.scheduler
        greenlets = Greenlets(scheduler, self.program)
        self.half = open_half(
            Ground(
                github=self.history.hub,
                database=self.db,
                providers=self.providers,
                default_provider=self.history.clouds[0].name,
                blobs=self.history.shelf,  # type: ignore[arg-type] - what is read of it
                bell=self.bell,  # type: ignore[arg-type] - the same three verbs
                now=self.now,
                wait=scheduler.sleep,
                call=self.history.fates.call,
                chance=random.Random(f"{self.history.scenario.seed}/{self.program.name}/hub"),
                new_id=self.new_run_id,
                pool=greenlets,
                spawn=lambda work: scheduler.spawn(self.program, work) and None,
                new_token=self.new_token,
            )
        )
        return (
            *super()._loops(policies),
            Loop("inbox", self.half.inbox.step, "deliveries"),
            Loop("publish", self.half.publisher.step, "publications"),
            Loop("redelivery", self.half.redelivery.step, "redelivery"),
        )

    def _reconciler(self, policies: Any) -> Reconciler:
        from dataclasses import replace

        found = super()._reconciler(policies)
        governed: Policies = self.half.policies
        return replace(found, eyes=replace(found.eyes, policy=governed.of_run))


class HubHistory(History):
    """A world with people on GitHub; nobody else wants runs."""

    replica = HubReplica

    def __init__(self, scenario: HubScenario, store: Store) -> None:
        super().__init__(scenario.world, store)
        self.hub_scenario = scenario
        self.policies = {name: _patient(policy) for name, policy in self.policies.items()}
        self.shelf = Shelf()
        self._run_ids = 0
        self._open = 0  # stories, workflows and deliveries that are under way
        self._quiet_since: float | None = None
        chance = random.Random(f"{scenario.world.seed}/hub people")
        self.hub = Github(
            now=self.scheduler.moment, chance=chance, lag=timedelta(seconds=scenario.lag_s)
        )
        self.hooks = Webhooks(
            github=self.hub,
            post=self._post,
            later=self.begin_later,
            chance=random.Random(f"{scenario.world.seed}/webhooks"),
            weather=scenario.weather,
        )
        self.people = People(self, self.hub, chance)
        self.hub.tell, self.hub.redeliver = self.hooks.emit, self.hooks.redeliver
        self.hub.dispatch = self.people.dispatched

    def new_run_id(self) -> str:
        """Return an id that no other run has."""
        self._run_ids += 1
        return f"arun{self._run_ids:08d}"

    def begin_later(self, after: float, what: Callable[[], None]) -> None:
        """Do something of the outside later; nothing is over before it was done."""
        self._open += 1

        def do() -> None:
            try:
                what()
            finally:
                self._open -= 1

        self.scheduler.spawn(self.outside, do, after=after)

    def outputs_of(self, run_id: str, attempt: int) -> tuple[Output, ...]:
        """Store what an attempt has made, and return it."""
        if not self.hub_scenario.has_outputs:
            return ()
        data = _DATA + run_id.encode()
        [(repository_id,)] = self.store.rows("SELECT repository_id FROM runs WHERE id = ?", run_id)
        self.shelf.blobs[blob_key(repository_id, run_id, attempt, "model")] = data
        digest = hashlib.sha256(data).hexdigest()
        return (Output(path="model", size_bytes=len(data), sha256=digest),)

    # ── what is planned ────────────────────────────────────────────────────────────────────────

    def _plan_people(self) -> None:
        super()._plan_people()
        for story in self.hub_scenario.stories:
            self.begin_later(story.at, lambda name=story.name: self.people.begin(name))  # type: ignore[misc]

    def _heal(self) -> None:
        super()._heal()
        self.hooks.healed = True

    def _post(self, sent: Sent, signature: str) -> int:
        try:
            return int(self.ask(lambda replica: replica.half.post(sent, signature)))
        except Unanswered:
            return NO_ANSWER

    # ── when it is over ────────────────────────────────────────────────────────────────────────

    def _is_over(self) -> bool:
        if not self._is_settled():
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = self.scheduler.now
        return self.scheduler.now - self._quiet_since > _QUIET_S

    def _is_settled(self) -> bool:
        if self._open or self.fates.is_pending() or any(cloud.alive() for cloud in self.clouds):
            return False
        if self.scheduler.now < self.scenario.heals_at:
            return False
        open_ones = (
            "SELECT 1 FROM runs WHERE state != 'finished'"
            " UNION ALL SELECT 1 FROM deliveries WHERE state = 'pending'"
            " UNION ALL SELECT 1 FROM publications WHERE due_at IS NOT NULL LIMIT 1"
        )
        if self.store.rows(open_ones):
            return False
        stored = {guid for (guid,) in self.store.rows("SELECT guid FROM deliveries")}
        return all(sent.guid in stored for sent in self.hub.deliveries if sent.genuine)


def _patient(policy: Policy) -> Policy:
    from dataclasses import replace

    return replace(policy, build_limit=_BUILD_LIMIT)


# ── what is left of it ──────────────────────────────────────────────────────────────────────────


def history_of(history: HubHistory, ended: Ended) -> GithubHistory:
    """Return what the oracles of GitHub read."""
    hub, store = history.hub, history.store
    stored = dict(store.rows("SELECT guid, state FROM deliveries"))
    published = store.rows("SELECT subject, kind, state, external_id, due_at FROM publications")
    return GithubHistory(
        log=tuple(hub.log),
        deliveries=tuple(hub.deliveries),
        check_runs=tuple((r.id, row) for r in hub.repos.values() for row in r.check_runs.values()),
        commits={
            (repo.id, commit.sha): commit.files
            for repo in hub.repos.values()
            for commit in repo.commits.values()
        },
        runs=tuple(_runs(store)),
        stored=stored,
        published=tuple(
            Published(subject=s, kind=k, state=st, external_id=e, due=due is not None)
            for s, k, st, e, due in published
        ),
        beats=beats_of(history),
        submitted=tuple(history.people.submitted),
        manifests={
            row.id: found
            for repo in hub.repos.values()
            for row in repo.releases.values()
            if (found := manifest_of(row)) is not None
        },
        healed=ended.scenario.mode is Mode.LIVENESS,
    )


def _runs(store: Store) -> list[RunSeen]:
    seen: dict[str, list[tuple[float, int]]] = {}
    for at, run_id, attempts in store.rows("SELECT at, id, attempts FROM seen_runs ORDER BY rowid"):
        seen.setdefault(run_id, []).append((at, attempts or 0))
    wishes = dict(
        store.rows("SELECT run_id, json_extract(body, '$.by') FROM wishes WHERE kind = 'cancel'")
    )
    rows = store.rows("SELECT id, repository_id, spec_text, doc FROM runs ORDER BY seq")
    return [
        _run(repository_id, text, json.loads(doc), seen[run_id], wishes.get(run_id))
        for run_id, repository_id, text, doc in rows
    ]


def _run(
    repository_id: int,
    text: str,
    doc: dict[str, Any],
    seen: list[tuple[float, int]],
    cancelled_by: str | None,
) -> RunSeen:
    ordered = [at for at, attempts in seen if attempts]
    origin, approval = doc.get("origin", {}), doc.get("approval") or {}
    key = doc["key"]
    stored = [one for one in doc.get("outputs") or () if one.get("left_out") is None]
    return RunSeen(
        id=doc["id"],
        repository_id=repository_id,
        sha=key["commit_sha"],
        trigger=key["trigger"],
        path=key["spec_path"],
        event=doc.get("event", ""),
        state=doc["state"],
        outcome=doc.get("outcome"),
        created_at=_true(seen[0][0]),
        ordered_at=_true(ordered[0]) if ordered else None,
        asked_by=origin.get("asked_by"),
        fork=bool(origin.get("fork")),
        reproduces=origin.get("reproduces"),
        retries=origin.get("retries"),
        image=doc.get("image"),
        spec_text=text,
        approved_by=approval.get("by"),
        approved_sha=approval.get("commit_sha"),
        cancelled_by=cancelled_by,
        pull_request=doc.get("pull_request"),
        outputs=tuple((one["path"], one["size_bytes"], one["sha256"]) for one in stored),
    )


def beats_of(history: History) -> tuple[Beat, ...]:
    """Pair each heartbeat that was taken with the machine that had called just then."""
    programs = {m.uid: _machine(m.program.name) for cloud in history.clouds for m in cloud.all}
    calls: dict[str, list[float]] = {}
    for one in history.record.log:
        if one.kind == "agent.beat":
            calls.setdefault(programs.get(one.name, ""), []).append(one.at)
    pauses = [one.at for one in history.record.log if one.kind == "replica.paused"]
    nonces = dict(history.store.rows("SELECT name, nonce FROM instances"))
    found, last = [], dict[str, tuple[int, int, str]]()
    query = "SELECT at, name, beat, closed, heard FROM seen_instances ORDER BY rowid"
    for at, name, beat, closed, heard in history.store.rows(query):
        before, was_closed, was_heard = last.get(name, (0, 0, ""))
        last[name] = (beat, closed, heard)
        if beat > before or (was_closed and heard != was_heard):
            nonce = _machine(nonces.get(name) or "")
            theirs = any(_is_its_beat(called, at, pauses) for called in calls.get(nonce, ()))
            token_of = name if theirs else "another machine"
            found.append(
                Beat(at=_true(at), instance=name, token_of=token_of, closed=bool(was_closed))
            )
    return tuple(found)


def _is_its_beat(called: float, at: float, pauses: Sequence[float]) -> bool:
    """Say whether what was called then may take effect at `at`: a replica paused again and again
    takes up what was sent to it before.
    """
    moments = [called, *(one for one in pauses if called < one < at), at]
    return all(0 <= later - one <= _BEAT_S for one, later in pairwise(moments))


def _machine(program: str) -> str:
    """Return the machine of a program: each boot is another program of the same machine."""
    return program.replace(" again", "")


def _true(at: float) -> datetime:
    return EPOCH + timedelta(seconds=at)
