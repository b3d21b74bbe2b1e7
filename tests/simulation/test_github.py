"""The GitHub in memory: it answers as the real one does, to the real code above it."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import github.Requester
import pytest

from cynthus.wire import Output
from tests.builders import NOON, an_attempt
from tests.engine.world import Inline
from tests.fake_provider import FakeProvider
from tests.github_parts import Shelf
from tests.simulation.github import Github, Repo
from tests.simulation.github_connection import Connection, shape
from tests.simulation.github_half import GithubHalf, Ground, open_half
from tests.simulation.github_rest import manifest_of
from tests.simulation.weather import Weather
from tests.simulation.webhooks import Webhooks
from webhook_server.bell import Bell
from webhook_server.publish.twins import LATE
from webhook_server.runs.commands import Decision
from webhook_server.runs.model import Cause, Outcome, Reason, Run, State
from webhook_server.runs.trail import DeedVerb
from webhook_server.stores.blob_protocol import blob_key
from webhook_server.stores.database import Database
from webhook_server.stores.publication_store import (
    PublicationKind,
    PublicationState,
    PublicationStore,
)
from webhook_server.stores.run_store import RunStore
from webhook_server.stores.trail_store import TrailStore, Wanted

SPEC = b"version: 1\nname: digits\nrun: python train.py\n"


class Calls:
    """Lets every call succeed, but for those whose answer is lost and whose effect comes later."""

    def __init__(self) -> None:
        self.late: set[str] = set()  # the next call of each of these kinds
        self.to_come: list[Callable[[], Any]] = []

    def __call__(
        self,
        kind: str,
        do: Callable[[], Any],
        *,
        refused: Callable[[], Exception],  # noqa: ARG002 - as `fates.call` has it
        lost: Callable[[], Exception],
    ) -> Any:
        if kind in self.late:
            self.late.discard(kind)
            self.to_come.append(do)
            raise lost()
        return do()

    def come(self) -> None:
        """Let the late effects take place."""
        while self.to_come:
            self.to_come.pop()()


@dataclass
class Stage:
    """One replica's GitHub half on a database, stepped by the test; nothing ever fails."""

    github: Github
    hooks: Webhooks
    half: GithubHalf
    runs: RunStore
    clock: list[datetime]
    later: list[tuple[float, Callable[[], None]]]
    blobs: dict[str, bytes]
    calls: Calls

    def pass_by(self, seconds: float = 0.0) -> None:
        """Let time pass, deliver what was sent, and let both loops do all that is due."""
        self.clock[0] += timedelta(seconds=seconds)
        while self.later:
            self.later.pop(0)[1]()
        for _ in range(4):
            self.half.inbox.step()
            self.half.publisher.step()
            self.clock[0] += timedelta(seconds=1)

    def the_run(self) -> Run:
        [row] = self.runs.list(repository_id=None, limit=2, before=None)
        run = self.runs.get(row.id)
        assert run is not None
        return run

    def finish(self, outcome: Outcome) -> None:
        """Let the run be finished."""
        now, run = self.clock[0], self.the_run()
        reason = Reason(cause=Cause.EXIT, text="done")
        ended = replace(run, state=State.FINISHED, outcome=outcome, reason=reason)
        self.save(replace(ended, state_since=now, finished_at=now))

    def release(self, data: bytes) -> None:
        """Let the run be releasing, with one output."""
        run = self.the_run()
        output = Output(path="model", size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        self.blobs[blob_key(7, run.id, 1, "model")] = data
        ended = replace(run, state=State.RELEASING, outcome=Outcome.SUCCEEDED, wants_release=True)
        attempts = (an_attempt(names=(f"cynthus-{run.id}-1",)),)
        self.save(replace(ended, outputs=(output,), attempts=attempts))

    @property
    def publications(self) -> PublicationStore:
        """Return what is kept of what is shown."""
        return PublicationStore(self.runs._db)

    def save(self, run: Run) -> None:
        """Save a run as the loop would."""
        self.runs.wake(run.id, self.clock[0])
        [claim] = self.runs.claim(limit=1, lease=timedelta(minutes=1), now=self.clock[0])
        assert self.runs.save(claim, Decision(run=run), self.clock[0])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    shelf, calls = Shelf(), Calls()
    clock, later = [NOON], list[tuple[float, Callable[[], None]]]()
    chance = random.Random(1)
    database = Database(f"sqlite:///{tmp_path}/cynthus.db", now=lambda: clock[0])
    database.migrate()
    hub = Github(now=lambda: clock[0], chance=chance, lag=timedelta(0))
    ids = itertools.count(1)

    def wait(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds)

    half = open_half(
        Ground(
            github=hub,
            database=database,
            providers={"fake": FakeProvider(lambda: clock[0])},
            default_provider="fake",
            blobs=shelf,  # type: ignore[arg-type]
            bell=Bell(),
            now=lambda: clock[0],
            wait=wait,
            call=calls,
            chance=chance,
            new_id=lambda: f"r{next(ids):08d}",
            pool=Inline(),
            spawn=lambda work: work(),
            new_token=lambda: f"{chance.getrandbits(128):032x}",
        )
    )
    hooks = Webhooks(
        github=hub,
        post=half.post,
        later=lambda seconds, do: later.append((seconds, do)),
        chance=chance,
        weather=Weather(),
    )
    hub.tell, hub.redeliver = hooks.emit, hooks.redeliver
    yield Stage(hub, hooks, half, RunStore(database), clock, later, shelf.blobs, calls)
    database.close()


def a_repo(hub: Github) -> Repo:
    repo = hub.add_repo("acme", "digits", 7)
    repo.branches["main"] = hub.commit(repo, {"README.md": b"hello"}, "root")
    hub.set_role(repo, "ada", "write")
    return repo


def a_push(hub: Github, repo: Repo, seed: str = "1") -> str:
    sha = hub.commit(repo, {"cynthus.yaml": SPEC, "train.py": b"print()"}, seed)
    hub.push(repo, "ada", "main", sha)
    return sha


def test_a_push_becomes_a_run_and_its_check_run_ends_as_the_run_does(stage: Stage) -> None:
    repo = a_repo(stage.github)
    sha = a_push(stage.github, repo)
    stage.pass_by()
    run = stage.the_run()
    assert (run.key.commit_sha, run.key.repository_id) == (sha, 7)
    [row] = repo.check_runs.values()
    assert (row.external_id, row.status, row.conclusion) == (run.id, "queued", None)
    stage.finish(Outcome.FAILED)
    stage.pass_by(60)
    assert (row.status, row.conclusion) == ("completed", "failure")


def test_a_delivery_is_acked_once_stored_and_known_again_under_its_id(stage: Stage) -> None:
    repo = a_repo(stage.github)
    a_push(stage.github, repo)
    stage.pass_by()
    [sent] = stage.github.deliveries
    assert sent.acked
    stage.hooks.redeliver(sent.id)
    stage.pass_by()
    assert [one.status for one in stage.github.deliveries] == [202, 202]
    assert stage.the_run().key.commit_sha == repo.branches["main"]


def test_a_lost_delivery_is_found_in_the_apps_log_and_asked_for_again(stage: Stage) -> None:
    repo = a_repo(stage.github)
    stage.hooks.weather = Weather(lost=1.0)
    a_push(stage.github, repo)
    stage.pass_by()
    assert [one.acked for one in stage.github.deliveries] == [False]
    assert stage.runs.list(repository_id=None, limit=1, before=None) == []
    stage.half.redelivery.step()
    stage.pass_by()
    assert [one.acked for one in stage.github.deliveries] == [False, True]
    assert stage.the_run().key.commit_sha == repo.branches["main"]


def test_a_comment_of_somebody_with_the_right_starts_a_run_and_is_answered(stage: Stage) -> None:
    repo = a_repo(stage.github)
    sha = stage.github.commit(repo, {"cynthus.yaml": SPEC}, "2")
    pull = stage.github.open_pull(repo, "ada", "feature", sha, head_repository_id=repo.id)
    stage.pass_by(5)
    stage.clock[0] += timedelta(seconds=5)
    row = stage.github.write_comment(repo, pull, "ada", "/cynthus run")
    stage.pass_by()
    assert stage.the_run().key.trigger == f"comment/{row.id}/0"
    assert row.reactions == ["eyes"]
    [ours] = [one for one in repo.comments.values() if one.ours]
    assert stage.the_run().id in ours.body


def test_a_run_with_outputs_gets_its_release_with_a_manifest_of_all_files(stage: Stage) -> None:
    repo = a_repo(stage.github)
    a_push(stage.github, repo)
    stage.pass_by()
    data = b"weights"
    stage.release(data)
    stage.pass_by()
    [row] = repo.releases.values()
    assert not row.draft
    manifest = manifest_of(row)
    assert manifest is not None
    assert [one["path"] for one in manifest["files"]] == ["model"]
    assert {asset.name: asset.data for asset in row.assets.values()}["model"] == data


def test_the_twin_of_a_create_whose_answer_was_lost_ends_as_the_check_run_does(
    stage: Stage,
) -> None:
    repo = a_repo(stage.github)
    stage.calls.late.add("github.POST check-runs")
    a_push(stage.github, repo)
    stage.pass_by()
    stage.pass_by(60)  # nothing is found, so that another is made
    stage.calls.come()
    stage.finish(Outcome.CANCELLED)
    stage.pass_by(60)
    assert [row.conclusion for row in repo.check_runs.values()] == ["cancelled", None]
    stage.pass_by(LATE.total_seconds())
    assert [row.conclusion for row in repo.check_runs.values()] == ["cancelled", "cancelled"]
    assert stage.publications.next_due() is None


@pytest.mark.case("G9")
def test_a_check_run_that_github_would_call_stale_is_followed_by_another(stage: Stage) -> None:
    repo = a_repo(stage.github)
    a_push(stage.github, repo)
    stage.pass_by()
    stage.pass_by(timedelta(days=12).total_seconds())
    assert len(repo.check_runs) == 1
    stage.pass_by(timedelta(days=1).total_seconds())
    old, new = repo.check_runs.values()
    assert (old.name, old.external_id) == (new.name, new.external_id)
    old.status, old.conclusion = "completed", "stale"  # as GitHub says a day later
    stage.finish(Outcome.SUCCEEDED)
    stage.pass_by(60)
    assert (old.conclusion, new.conclusion) == ("stale", "success")
    assert len(repo.check_runs) == 2


def test_the_twin_of_a_comment_whose_answer_was_lost_is_deleted(stage: Stage) -> None:
    repo = a_repo(stage.github)
    sha = stage.github.commit(repo, {"cynthus.yaml": SPEC}, "2")
    pull = stage.github.open_pull(repo, "ada", "feature", sha, head_repository_id=repo.id)
    stage.pass_by(5)
    stage.calls.late.add("github.POST issues/{}/comments")
    stage.github.write_comment(repo, pull, "ada", "/cynthus status")
    stage.pass_by()
    stage.pass_by(60)
    stage.calls.come()
    assert len([one for one in repo.comments.values() if one.ours]) == 2
    [kept] = [row for row in repo.comments.values() if row.ours][:1]
    stage.pass_by(LATE.total_seconds())
    assert [one for one in repo.comments.values() if one.ours] == [kept]


def test_the_twin_of_a_release_whose_answer_was_lost_is_deleted_and_the_release_stands(
    stage: Stage,
) -> None:
    repo = a_repo(stage.github)
    a_push(stage.github, repo)
    stage.pass_by()
    stage.calls.late.add("github.POST releases")
    stage.release(b"weights")
    stage.pass_by()
    stage.pass_by(60)  # nothing is found, so that another is made, and published
    [kept] = repo.releases.values()
    assert not kept.draft
    stage.calls.come()
    assert [row.draft for row in repo.releases.values()] == [False, True]
    stage.pass_by(60)
    assert len(repo.releases) == 2, "another create may be under way yet"
    stage.pass_by(LATE.total_seconds())
    assert list(repo.releases.values()) == [kept]
    shown = stage.publications.get(stage.the_run().id, PublicationKind.RELEASE)
    assert shown is not None
    assert (shown.state, shown.external_id, shown.due_at) == (PublicationState.DONE, kept.id, None)
    assert "twins_at" not in shown.sent
    told = TrailStore(stage.runs._db).newest(Wanted(), limit=99)
    assert [one.deed.verb for one in told].count(DeedVerb.RELEASE) == 1, (
        "it was published once, however often that is saved"
    )


def test_a_release_that_is_taken_away_while_twins_are_looked_for_stays_away(stage: Stage) -> None:
    repo = a_repo(stage.github)
    a_push(stage.github, repo)
    stage.pass_by()
    stage.calls.late.add("github.POST releases")
    stage.release(b"weights")
    stage.pass_by()
    stage.pass_by(60)
    stage.clock[0] += LATE
    items = stage.publications.claim(9, timedelta(minutes=1), stage.clock[0])
    [item] = [one for one in items if one.kind is PublicationKind.RELEASE]
    stage.publications.withdraw(item.subject, "deleted by ada", stage.clock[0])
    assert not stage.publications.save(replace(item, due_at=None))
    shown = stage.publications.get(item.subject, PublicationKind.RELEASE)
    assert shown is not None
    assert (shown.state, shown.note) == (PublicationState.REFUSED, "deleted by ada")


def test_a_look_for_twins_that_github_refuses_leaves_the_release_as_it_is(stage: Stage) -> None:
    repo = a_repo(stage.github)
    a_push(stage.github, repo)
    stage.pass_by()
    stage.calls.late.add("github.POST releases")
    stage.release(b"weights")
    stage.pass_by()
    stage.pass_by(60)
    del stage.github.repos[repo.id]
    stage.pass_by(LATE.total_seconds())
    shown = stage.publications.get(stage.the_run().id, PublicationKind.RELEASE)
    assert shown is not None
    assert (shown.state, shown.due_at) == (PublicationState.DONE, None)


def test_what_is_called_has_the_names_that_pygithub_has() -> None:
    for name in ("requestJsonAndCheck", "requestMemoryBlobAndCheck"):
        real = list(inspect.signature(getattr(github.Requester.Requester, name)).parameters)
        ours = list(inspect.signature(getattr(Connection, name)).parameters)
        assert ours == real[: len(ours)], name


def test_kinds_of_calls_are_named_alike_for_all_repositories() -> None:
    assert shape("/repos/acme/digits/check-runs/1005") == "check-runs/{}"
    assert shape(f"/repos/acme/digits/commits/{'a' * 40}/check-runs") == "commits/{}/check-runs"
