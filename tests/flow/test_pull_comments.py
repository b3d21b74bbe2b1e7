"""What a pull request is shown: one comment that is edited in place, one plan a head."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cynthus.repository_policy import Verb
from tests.builders import a_draft, a_key, a_spec
from tests.github_fixture import GithubSimulator, github_simulator
from tests.github_parts import Server, a_server
from webhook_server.runs.model import State
from webhook_server.runs.pull import Pull, Reply
from webhook_server.stores.publication_store import (
    Publication,
    PublicationKind,
    PublicationState,
    subject_of,
)

_numbers = itertools.count(1)


class World:
    """One pull request on a simulated GitHub, and a server beside it."""

    def __init__(self, github: GithubSimulator, server: Server, folder: Path, ids: tuple[int, ...]):
        self.github, self.server, self.folder = github, server, folder
        self.repository_id, self.installation_id = ids
        self.repo = f"{server.owner}/digits"
        self.push({"README.md": "hello"}, branch="main")
        self.sha = self.push({"README.md": "hello you"}, branch="patch")
        made = github.post("/pulls", repo=self.repo, head="patch", title="A patch")
        self.number = int(made["number"])
        self.pull = Pull(repository_id=self.repository_id, number=self.number, repository=self.repo)
        self.github.sim("DELETE", "/requests")

    def push(self, files: dict[str, str], branch: str) -> str:
        return self.github.push(self.folder / "work", files, to=self.repo, branch=branch)

    def change(self, kind: PublicationKind, **changes: Any) -> None:
        self.server.pulls.change(
            self.pull, lambda pull: replace(pull, **changes), self.server.clock(), (kind,)
        )

    def reply(self, number: int) -> None:
        """Answer something, and let the publisher look."""
        reply = Reply(
            key=f"comment/{number}/0",
            at=self.server.clock(),
            by="ada",
            verb=Verb.STATUS,
            asked="/cynthus status",
            refused=False,
            text=f"answer {number}",
        )
        known = self.server.pulls.get(self.repository_id, self.number) or self.pull
        self.change(PublicationKind.COMMENT, replies=(*known.replies, reply))
        self.server.publisher.step()

    def a_run(self) -> str:
        key = a_key(repository_id=self.repository_id, commit_sha=self.sha)
        draft = a_draft(key=key, repository=self.repo, pull_request=self.number, spec=a_spec())
        now = self.server.clock()
        return self.server.runs.accept(draft, arrived=None, token_id=None, now=now).run_id

    def comments(self) -> list[str]:
        issue = self.client.get_repo(self.repo).get_issue(self.number)
        return [str(found.body) for found in issue.get_comments()]

    def checks(self, sha: str) -> list[Any]:
        return list(self.client.get_repo(self.repo).get_commit(sha).get_check_runs())

    @property
    def client(self) -> Any:
        return self.github.client(self.server.app, self.installation_id)

    def publication(self, kind: PublicationKind = PublicationKind.COMMENT) -> Publication:
        found = self.server.publications.get(subject_of(self.repository_id, self.number), kind)
        assert found is not None
        return found

    def writes(self) -> list[str]:
        """Return what was written since the last look, by verb and end of the path."""
        sent = self.github.sim("GET", "/requests")
        self.github.sim("DELETE", "/requests")
        told = [(one["method"], one["path"]) for one in sent if "/repos/" in one["path"]]
        return [f"{verb} {path.split('/')[-2]}" for verb, path in told if verb != "GET"]


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        yield simulator


@pytest.fixture
def world(github: GithubSimulator, tmp_path: Path) -> Iterator[World]:
    owner = f"pulled{next(_numbers)}"
    github.sim("DELETE", "/faults")
    app = github.create_app()
    github.post("/owners", login=owner)
    made = github.post("/repos", owner=owner, name="digits", open=True)
    installed = github.post("/installations", app_id=app.id, owner=owner)
    with a_server(github, app, owner, tmp_path / "server") as server:
        yield World(github, server, tmp_path, (int(made["id"]), int(installed["id"])))


# ── the comment ─────────────────────────────────────────────────────────────────────────────────


def test_every_answer_goes_into_the_one_comment(world: World) -> None:
    for number in (1, 2, 3):
        world.reply(number)
    [text] = world.comments()
    assert text.index("answer 3") < text.index("answer 2") < text.index("answer 1")
    assert world.publication().url is not None


def test_nobody_is_written_to_who_has_not_asked(world: World) -> None:
    world.a_run()
    world.change(PublicationKind.COMMENT, open=False)
    world.server.publisher.step()
    assert world.comments() == []
    assert world.publication().state is PublicationState.DONE


def test_a_run_that_moves_on_is_told_at_most_every_half_minute(world: World) -> None:
    run_id = world.a_run()
    world.reply(1)
    world.server.to_state(run_id, State.QUEUED)
    world.server.publisher.step()
    assert "| building |" in world.comments()[0]
    due_at = world.publication().due_at
    assert due_at is not None
    assert due_at - world.server.clock() < timedelta(seconds=30)
    world.server.clock.pass_by(seconds=31)
    world.server.publisher.step()
    assert "| queued |" in world.comments()[0]
    world.reply(2)  # at once, whenever the last edit was
    assert "answer 2" in world.comments()[0]


def test_nothing_is_sent_that_stands_there_already(world: World) -> None:
    world.reply(1)
    world.writes()
    world.change(PublicationKind.COMMENT, draft=True)
    world.server.clock.pass_by(minutes=5)
    world.server.publisher.step()
    assert world.writes() == []


def test_a_create_whose_answer_was_lost_is_found_again(world: World) -> None:
    match = {"method": "POST", "path": "/issues/[0-9]+/comments$"}
    world.github.post("/faults", kind="drop_answer", match=match)
    world.reply(1)
    world.server.restart()
    world.server.clock.pass_by(minutes=1)
    world.server.publisher.step()
    assert len(world.comments()) == 1
    assert world.publication().external_id is not None


def test_a_deleted_comment_comes_back_only_for_a_new_question(world: World) -> None:
    run_id = world.a_run()
    world.reply(1)
    world.github.sim("DELETE", f"/comments/{world.publication().external_id}")
    world.server.runs.cancel(run_id, "ada", world.server.clock())
    world.server.to_state(run_id, State.QUEUED)
    world.server.clock.pass_by(minutes=1)
    world.server.publisher.step()
    assert world.comments() == []
    assert "deleted" in str(world.publication().note)
    world.reply(2)
    [text] = world.comments()
    assert "answer 2" in text


def test_a_locked_conversation_is_asked_again_only_for_a_new_question(world: World) -> None:
    run_id = world.a_run()
    match = {"method": "POST", "path": "/issues/[0-9]+/comments$"}
    body = {"message": "Unable to create comment because issue is locked."}
    world.github.post("/faults", kind="error", status=403, body=body, match=match)
    world.reply(1)
    assert world.publication().state is PublicationState.REFUSED
    assert "locked" in str(world.publication().note)
    world.writes()
    world.server.to_state(run_id, State.QUEUED)
    world.server.clock.pass_by(minutes=1)
    world.server.publisher.step()
    assert [write for write in world.writes() if "comments" in write] == []
    world.reply(2)
    assert len(world.comments()) == 1
