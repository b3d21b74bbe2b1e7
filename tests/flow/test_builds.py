"""A run asks the repository's workflows for its image: once, whatever crashes or refuses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import a_draft, a_key
from tests.github_fixture import PERMISSIONS, App, GithubSimulator, github_simulator
from tests.github_parts import IMAGE, Server, a_server
from webhook_server.runs.model import Origin, RunDraft, State
from webhook_server.stores.publication_store import PublicationKind, PublicationState

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GithubSimulator]:
    with github_simulator(tmp_path_factory.mktemp("github")) as simulator:
        yield simulator


class Town:
    """One repository with a run in it that wants a build."""

    def __init__(self, github: GithubSimulator, server: Server, repository_id: int) -> None:
        self.github, self.server, self.repository_id = github, server, repository_id
        self.run_id = self.accept(f"arun{next(_numbers):08d}")

    def draft(self, run_id: str) -> RunDraft:
        key = a_key(repository_id=self.repository_id, trigger=f"comment/{run_id}/0")
        origin = Origin(wants_build=True, asked_by="ada")
        name = f"{self.server.owner}/digits"
        return a_draft(id=run_id, key=key, repository=name, pull_request=None, origin=origin)

    def accept(self, run_id: str) -> str:
        now = self.server.clock()
        self.server.runs.accept(self.draft(run_id), arrived=None, token_id=None, now=now)
        return run_id

    def publish(self) -> None:
        """Publish what is due; check runs of a commit that is not there are beside the point."""
        self.server.publisher.step()

    def dispatches(self) -> list[dict[str, Any]]:
        events = self.github.sim("GET", "/events?after=0")
        return [
            one["payload"]
            for one in events
            if one["event"] == "repository_dispatch"
            and one["payload"]["repository"]["id"] == self.repository_id
        ]

    @property
    def state(self) -> PublicationState:
        found = self.server.publications.get(self.run_id, PublicationKind.BUILD)
        assert found is not None
        return found.state


@pytest.fixture
def town(github: GithubSimulator, tmp_path: Path) -> Iterator[Town]:
    github.sim("DELETE", "/faults")
    yield from a_town(github, tmp_path, github.create_app())


def a_town(github: GithubSimulator, folder: Path, app: App) -> Iterator[Town]:
    owner = f"builder{next(_numbers)}"
    github.post("/owners", login=owner)
    made = github.post("/repos", owner=owner, name="digits", open=True)
    github.post("/installations", app_id=app.id, owner=owner)
    with a_server(github, app, owner, folder) as server:
        yield Town(github, server, made["id"])


def test_the_workflows_are_asked_once_for_exactly_this_run(town: Town) -> None:
    town.publish()
    town.publish()
    [told] = town.dispatches()
    assert told["action"] == "cynthus"
    assert told["client_payload"]["run_id"] == town.run_id
    assert told["client_payload"]["trigger"] == f"comment/{town.run_id}/0"
    assert told["client_payload"]["fork"] is False
    assert town.state is PublicationState.DONE


def test_a_run_whose_image_is_there_asks_for_none(town: Town) -> None:
    now = town.server.clock()
    draft = town.draft(town.run_id)
    town.server.runs.accept(draft, arrived=IMAGE, token_id=None, now=now)
    town.publish()
    assert town.dispatches() == []
    assert town.state is PublicationState.DONE


def test_the_runs_of_a_sweep_are_built_once(town: Town) -> None:
    others = [town.accept(f"{town.run_id}{letter}") for letter in "bc"]
    town.publish()
    town.server.clock.pass_by(minutes=3)
    town.publish()
    assert len(town.dispatches()) == 1
    now = town.server.clock()
    town.server.runs.accept(town.draft(town.run_id), arrived=IMAGE, token_id=None, now=now)
    image = IMAGE.image
    town.server.to_state(town.run_id, State.QUEUED, image=image)
    town.server.clock.pass_by(seconds=5)
    town.publish()
    found = [town.server.runs.wishes(one).image for one in others]
    assert [one.image for one in found if one is not None] == [image, image]
    assert len(town.dispatches()) == 1


@pytest.mark.parametrize("kind", ["drop_answer", "error"])
def test_a_lost_answer_is_given_time_and_then_asked_again(town: Town, kind: str) -> None:
    town.github.post("/faults", kind=kind, match={"method": "POST", "path": "dispatches"})
    arrived = 1 if kind == "drop_answer" else 0
    town.publish()
    town.server.clock.pass_by(seconds=90)
    town.publish()
    assert len(town.dispatches()) == arrived  # the first may yet bring the image
    town.server.clock.pass_by(seconds=40)
    town.publish()
    assert len(town.dispatches()) == arrived + 1
    town.server.clock.pass_by(hours=1)
    town.publish()
    assert len(town.dispatches()) == arrived + 1


def test_a_lost_answer_whose_image_comes_is_not_asked_again(town: Town) -> None:
    town.github.post("/faults", kind="drop_answer", match={"method": "POST", "path": "dispatches"})
    town.publish()
    now = town.server.clock()
    draft = town.draft(town.run_id)
    town.server.runs.accept(draft, arrived=IMAGE, token_id=None, now=now)
    town.server.clock.pass_by(minutes=5)
    town.publish()
    assert len(town.dispatches()) == 1
    assert town.state is PublicationState.DONE


def test_a_crash_between_save_and_send_costs_two_minutes(town: Town) -> None:
    now = town.server.clock()
    claimed = town.server.publications.claim(20, timedelta(seconds=1), now)
    [build] = [one for one in claimed if one.kind is PublicationKind.BUILD]
    town.server.publisher._shows[PublicationKind.BUILD].show(build)  # saved that it will be tried
    town.server.restart()
    town.publish()
    assert town.dispatches() == []  # nobody knows whether it was
    town.server.clock.pass_by(seconds=125)
    town.publish()
    assert len(town.dispatches()) == 1


@pytest.fixture
def poor_town(github: GithubSimulator, tmp_path: Path) -> Iterator[Town]:
    """Its owner has not accepted the App's permission to write contents."""
    app = github.create_app(permissions=PERMISSIONS | {"contents": "read"})
    yield from a_town(github, tmp_path, app)


def test_an_app_without_the_right_ends_the_run_with_the_remedy(poor_town: Town) -> None:
    poor_town.publish()
    wish = poor_town.server.runs.wishes(poor_town.run_id).image
    assert wish is not None
    assert wish.image is None
    assert "contents: write" in (wish.failure or "")
    assert poor_town.dispatches() == []
    assert poor_town.state is PublicationState.REFUSED
