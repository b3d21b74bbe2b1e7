"""A repository's policy: read from a simulated GitHub, kept through outages, shown at commits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cynthus.errors import Transient
from cynthus.repository_policy import POLICY_PATH, RepositoryPolicy
from tests.github_fixture import (
    GithubSimulator,
    WebhookSink,
    git,
    github_simulator,
    one_key,
    webhook_sink,
)
from tests.github_parts import SPEC, Server, a_server
from webhook_server.intents import Place
from webhook_server.policies import Policies
from webhook_server.publish import Places
from webhook_server.stores.policy_store import PolicyStore

GOOD = "version: 1\nlimits: {max_cost: 5.00}\n"
BAD = "version: 1\nlimits:\n  max_cots: 5.00\nbots: renovate\n"
_numbers = itertools.count(1)


@dataclass
class World:
    """One repository on a simulated GitHub, and a server beside it."""

    github: GithubSimulator
    server: Server
    sink: WebhookSink
    folder: Path

    def push(self, text: str | None, **more: Any) -> str:
        """Push a policy file (None: none), and let the inbox hear of it."""
        work, to = self.folder / "work", f"{self.server.owner}/digits"
        (work / POLICY_PATH).unlink(missing_ok=True)
        files = {"cynthus.yaml": SPEC} | ({} if text is None else {POLICY_PATH: text})
        sha = self.github.push(work, files, to=to, **more)
        self._hear()
        return sha

    def merge(self) -> None:
        """Make the default branch what was pushed last, as a fast forward."""
        url = self.github.git_url(f"{self.server.owner}/digits")
        git(self.folder / "work", "push", "--quiet", url, "HEAD:main")
        self._hear()

    def _hear(self) -> None:
        delivery = self.sink.wait_for("push")
        guid = delivery.headers["x-github-delivery"]
        self.server.deliver(guid, delivery.event, delivery.body)

    @property
    def policies(self) -> Policies:
        places = Places(self.server.api, self.server.repositories, self.server.clock)
        store = PolicyStore(self.server.db)
        return Policies(self.server.api, store, places.find, self.server.clock)

    @property
    def place(self) -> Place:
        [row] = self.server.runs.list(repository_id=None, limit=99, before=None)[:1]
        places = Places(self.server.api, self.server.repositories, self.server.clock)
        return places.find(row.repository_id, row.repository)

    def checks(self, sha: str) -> list[Any]:
        for _ in range(3):  # noted, begun, sent
            self.server.publisher.step()
        app = self.github.integration(self.server.app)
        installation = app.get_repo_installation(self.server.owner, "digits").id
        client = self.github.client(self.server.app, int(installation))
        found = client.get_repo(f"{self.server.owner}/digits").get_commit(sha).get_check_runs()
        return [check for check in found if check.name == "cynthus/policy"]

    def requests(self) -> int:
        return len(self.github.sim("GET", "/requests"))

    def away(self) -> None:
        self.github.post("/faults", kind="error", status=503, times=-1, match={"path": "repos"})


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        yield simulator


@pytest.fixture
def world(github: GithubSimulator, tmp_path: Path) -> Iterator[World]:
    owner = f"rules{next(_numbers)}"
    github.sim("DELETE", "/faults")
    with webhook_sink() as sink:
        app = github.create_app(webhook_url=sink.url, pem=one_key())
        github.post("/owners", login=owner)
        github.post("/repos", owner=owner, name="digits", open=True)
        github.post("/installations", app_id=app.id, owner=owner)
        with a_server(github, app, owner, tmp_path / "server") as server:
            yield World(github, server, sink, tmp_path)


# ── read and kept ───────────────────────────────────────────────────────────────────────────────


def test_a_repository_without_a_file_has_the_defaults(world: World) -> None:
    world.push(None)
    seen = world.policies.of(world.place)
    assert (seen.policy, seen.found, seen.faults) == (RepositoryPolicy(), False, ())


@pytest.mark.case("S4")
def test_the_file_of_the_default_branch_counts_and_is_asked_for_once(world: World) -> None:
    world.push(GOOD)
    world.push("version: 1\nlimits: {max_cost: 500.00}\n", branch="mine")
    place = world.place
    assert world.policies.of(place).policy.limits.max_cost_usd == Decimal(5)
    world.github.sim("DELETE", "/requests")
    assert world.policies.of(place).found
    assert world.requests() == 0
    world.server.clock.pass_by(minutes=5)
    world.policies.of(place)
    assert world.requests() == 2, "the repository's identity, and the file"


def test_a_push_that_changes_the_file_counts_at_once(world: World) -> None:
    world.push(GOOD)
    place = world.place
    world.policies.of(place)
    world.push("version: 1\nlimits: {max_cost: 1.00}\n")
    assert world.policies.of(place).policy.limits.max_cost_usd == Decimal(1)


def test_while_github_is_away_the_last_reading_serves_for_a_day(world: World) -> None:
    world.push(GOOD)
    place = world.place
    world.policies.of(place)
    world.away()
    world.server.clock.pass_by(hours=23)
    assert world.policies.of(place).policy.limits.max_cost_usd == Decimal(5)
    world.server.clock.pass_by(hours=1)
    with pytest.raises(Transient, match=r"cynthus-policy\.yml cannot be read now"):
        world.policies.of(place)


@pytest.mark.case("S4")
def test_s4_what_a_push_has_changed_serves_no_more_while_github_is_away(world: World) -> None:
    world.push(GOOD)
    place = world.place
    world.policies.of(place)
    world.server.clock.pass_by(seconds=1)
    world.push("version: 1\nlimits: {max_cost: 1.00}\n")
    world.away()
    with pytest.raises(Transient, match=r"cynthus-policy\.yml cannot be read now"):
        world.policies.of(place)


def test_a_policy_that_was_never_read_is_not_guessed(world: World) -> None:
    world.push(GOOD)
    place = world.place
    world.away()
    with pytest.raises(Transient):
        world.policies.of(place)


def test_a_file_with_faults_is_told_with_all_of_them(world: World) -> None:
    world.push(BAD)
    seen = world.policies.of(world.place)
    assert seen.policy == RepositoryPolicy()
    assert [(fault.line, fault.column) for fault in seen.faults] == [(3, 3), (4, 7)]


def test_a_run_finds_the_policy_of_its_own_repository(world: World) -> None:
    world.push(GOOD)
    [row] = world.server.runs.list(repository_id=None, limit=9, before=None)
    run = world.server.runs.get(row.id)
    assert run is not None
    assert world.policies.of_run(run).policy.limits.max_cost_usd == Decimal(5)


# ── shown ───────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_that_breaks_the_policy_is_told_on_its_lines(world: World) -> None:
    world.push(GOOD)
    [check] = world.checks(world.push(BAD))
    assert (check.status, check.conclusion) == ("completed", "failure")
    assert "nothing that costs starts here" in check.output.summary
    lines = sorted(found.start_line for found in check.get_annotations())
    assert lines == [3, 4]


def test_a_commit_that_changes_or_removes_the_policy_gets_one_check_run(world: World) -> None:
    world.push(None)
    changed = world.push(GOOD)
    assert [check.output.title for check in world.checks(changed)] == ["in force"]
    assert len(world.checks(changed)) == 1
    removed = world.push(None)
    assert [check.output.title for check in world.checks(removed)] == ["removed: the defaults hold"]


def test_other_branches_are_told_what_counts_and_only_where_they_change_it(world: World) -> None:
    world.push(GOOD)
    assert world.checks(world.push(GOOD, branch="mine")) == []
    [check] = world.checks(world.push("version: 1\n", branch="mine"))
    assert (check.conclusion, check.output.title) == ("success", "fine; in force once it is merged")


def test_a_branch_that_becomes_the_default_ones_is_told_that_its_file_counts(world: World) -> None:
    world.push(GOOD)
    sha = world.push("version: 1\n", branch="mine")
    [before] = world.checks(sha)
    assert before.output.title == "fine; in force once it is merged"
    world.merge()
    assert [check.output.title for check in world.checks(sha)] == ["in force"]


def test_a_file_that_github_hid_at_first_is_judged_anew(world: World) -> None:
    world.push(GOOD)
    world.checks(world.push("version: 1\n", branch="mine"))
    sha = world.push(BAD, branch="mine")
    match = {"method": "GET", "path": "cynthus-policy"}
    # Noted, then sent: each looks at the commit's file and at the default branch's.
    world.github.post("/faults", kind="error", status=404, times=4, match=match)
    [hidden] = world.checks(sha)
    assert hidden.conclusion == "success"
    world.merge()
    [check] = world.checks(sha)
    assert (check.conclusion, check.id > hidden.id) == ("failure", True)
