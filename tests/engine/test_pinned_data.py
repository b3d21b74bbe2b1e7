"""Whole lives of runs that stand on data: pinned from a simulated hub before anything is lent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cynthus.spec import DataSource, Spec
from tests.builders import a_spec, an_exit
from tests.engine.world import RUN, World
from tests.hub_fixture import SECRET, Hub
from webhook_server.runs.model import Cause, Origin, Outcome, State
from webhook_server.settings_reader import read
from webhook_server.sources.pins import AWAY_S
from webhook_server.sources.registry import open_pins
from webhook_server.stores.file_blobs import FileBlobs
from webhook_server.stores.file_secrets import FileSecrets

OTHER = "arun00000002"
_numbers = count(1)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    hub.make("hf/users", name="ada", token=SECRET)
    yield hub
    hub.stop()


@pytest.fixture
def secrets(tmp_path: Path) -> FileSecrets:
    return FileSecrets(tmp_path / "secrets", b"k" * 32)


@pytest.fixture
def world(hub: Hub, secrets: FileSecrets, tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path}/cynthus.db")
    settings = read({"CYNTHUS_HF_URL": hub.url, "CYNTHUS_KAGGLE_URL": hub.url})
    made.data = open_pins(settings, FileBlobs(tmp_path / "blobs"), secrets).of_run
    yield made
    made.db.close()
    hub.forget()


def a_dataset(hub: Hub, **more: Any) -> tuple[str, str]:
    name = f"org/words{next(_numbers)}"
    files = {"a.csv": "x" * 10}
    wish = {"type": "dataset", "name": name, "files": files, **more}
    return name, hub.make("hf/repos", **wish)["commit"]


def reading(name: str) -> Spec:
    entry = DataSource(name="train", source=f"hf://datasets/{name}@main", mount="/data/train")
    return a_spec(data=(entry,), outputs=())


def test_a_run_keeps_its_commit_though_the_branch_moves_between_its_attempts(
    hub: Hub, world: World
) -> None:
    name, commit = a_dataset(hub)
    world.submit(spec=reading(name))
    world.step()
    first = world.enrol()
    world.step()
    hub.make("hf/commits", type="dataset", name=name, files={"a.csv": "new"})
    world.beat(first)
    world.finish_work(first, an_exit(None, infrastructure=True, error="the disk died"))
    world.wait(timedelta(minutes=1))
    assert world.name() != first
    [pinned] = world.run().datasets or ()
    assert (pinned.revision, pinned.files) == (commit, 2)
    assert len([line for line in hub.seen() if "/revision/" in line["path"]]) == 1


def test_the_image_and_the_data_are_waited_for_together(hub: Hub, world: World) -> None:
    name, commit = a_dataset(hub)
    world.submit(spec=reading(name))
    world.step_to_queued()
    [pinned] = world.run().datasets or ()
    assert (world.state(), pinned.revision) == (State.QUEUED, commit)


def test_a_gate_ends_the_run_with_the_page_to_visit_and_lends_nothing(
    hub: Hub, secrets: FileSecrets, world: World
) -> None:
    name, _ = a_dataset(hub, gated="manual")
    secrets.set(7, "HF_TOKEN", SECRET)
    world.submit(spec=reading(name))
    world.step()
    run = world.run()
    assert (run.state, run.outcome, run.reason.cause) == (
        State.FINISHED,
        Outcome.FAILED,
        Cause.DATA,
    )
    assert f"Visit {hub.url}/datasets/{name} with the account of" in run.reason.text
    assert SECRET not in run.reason.text
    assert world.provider.created == []


def test_a_hub_that_is_down_stops_no_other_run_and_is_asked_again(hub: Hub, world: World) -> None:
    name, commit = a_dataset(hub)
    hub.fault("error", path="/api/.*", times=3)
    world.submit(spec=reading(name))
    world.submit(OTHER)
    world.step()
    assert (world.state(), world.state(OTHER)) == (State.QUEUED, State.PROVISIONING)
    waiting = world.run()
    assert waiting.reason.cause is Cause.DATA
    assert waiting.reason.text == f"data/train: {hub.url}: answers 500 now. Try again."
    world.wait(timedelta(seconds=2 * AWAY_S))
    assert hub.struck() == 3
    [pinned] = world.run().datasets or ()
    assert (world.state(), pinned.revision) == (State.PROVISIONING, commit)


def test_a_forks_commit_stands_on_public_data_only(
    hub: Hub, secrets: FileSecrets, world: World
) -> None:
    name, _ = a_dataset(hub, private=True, readers=["ada"])
    secrets.set(7, "HF_TOKEN", SECRET)
    world.submit(RUN, spec=reading(name), origin=Origin(fork=True))
    world.submit(OTHER, spec=reading(name))
    world.step()
    assert "a fork's commit gets no tokens" in world.run().reason.text
    assert world.state(OTHER) is State.PROVISIONING
