"""A comment becomes a run: dispatch, workflow, Action, run request, all as processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cynthus.wire import RunView
from demo.stage import OWNER, PERSON, Stage, standing
from tests.action.test_publish import tar_of
from tests.flow.conftest import HASTE, judge
from tests.registry_fixture import Registry, a_registry

SPEC = """version: 1
name: asked
run: python3 main.py
triggers: {push: {branches: [nobody-pushes-here]}, pull_request: comment}
"""
WORKFLOW = """name: cynthus
on:
  repository_dispatch:
    types: [cynthus]
permissions: {contents: read, id-token: write}
jobs:
  run:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0
        with:
          persist-credentials: false
          ref: ${{ github.event.client_payload.commit_sha || github.sha }}
      - uses: cynthus/cynthus@v0
        with:
          server: "${{ vars.CYNTHUS_SERVER }}"
"""
LIMIT_S = 60.0  # seconds as a rule; a busy machine gets a minute


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("asked")
    with standing(folder, settings=HASTE, process=True) as stage:
        yield stage
        judge(stage)


@pytest.fixture
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with a_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def a_pull_request(stage: Stage, name: str, folder: Path, more: str = "") -> str:
    """Push the workflow to the default branch, and a change to a topic; return its head.

    `more`: lines below the step's `with`.
    """
    stage.create_repository(name)
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / ".github/workflows/cynthus.yml").write_text(WORKFLOW + more)
    (folder / "cynthus.yaml").write_text(SPEC)
    (folder / "main.py").write_text("print('main')\n")
    stage.push(name, folder)
    work = stage.folder / "work" / name
    (work / "main.py").write_text("print('of the topic')\n")
    stage.git(work, "commit", "--quiet", "--all", "--message", "A change")
    stage.git(work, "push", "--quiet", "origin", "HEAD:topic")
    wish = {"repo": f"{OWNER}/{name}", "head": "topic", "user": PERSON}
    stage.github.control("POST", "pulls", wish)
    # GitHub's moments are whole seconds: a comment is of a head that is surely older.
    stage.github.control("POST", "clock", {"advance_s": 2})
    return stage.git(work, "rev-parse", "HEAD").strip()


def until_built(stage: Stage, run_id: str) -> RunView:
    tick = threading.Event()
    for _ in range(int(LIMIT_S / 0.1)):
        view = stage.client.get(run_id)
        if view.state != "building":
            return view
        tick.wait(0.1)
    raise AssertionError(f"run {run_id} is still building:\n{stage.runner.tail()}")


def test_a_comment_has_the_default_branch_s_workflow_build_its_commit(
    light: Stage, tmp_path: Path
) -> None:
    sha = a_pull_request(light, "asked", tmp_path)
    wish = {"repo": f"{OWNER}/asked", "number": 1, "user": PERSON, "body": "/cynthus run"}
    comment = light.github.control("POST", "comments", wish)
    view = until_built(light, light.wait_for_run(sha))
    assert view.image is not None, view.reason
    workspace = Path(view.image.removeprefix("file://")) / "workspace"
    assert (workspace / "main.py").read_text() == "print('of the topic')\n"
    assert view.trigger == f"comment/{comment['id']}/0"
    assert [row["id"] for row in light.client.list(limit=20)] == [view.id]


def a_fork_s_pull_request(stage: Stage, name: str) -> str:
    """Open a pull request of a stranger's fork; return its head."""
    stranger = stage.github.control("POST", "users", {"login": "mallory"})
    fork = {"owner": "mallory", "name": name, "fork_of": f"{OWNER}/{name}"}
    stage.github.control("POST", "repos", fork)
    work = stage.folder / "work" / name
    (work / "main.py").write_text("print('of the fork')\n")
    stage.git(work, "commit", "--quiet", "--all", "--message", "A stranger's change")
    door = stage.github.url.replace("http://", f"http://mallory:{stranger['token']}@")
    stage.git(work, "push", "--quiet", f"{door}/mallory/{name}.git", "HEAD:main")
    wish = {"repo": f"{OWNER}/{name}", "head": "main", "head_repo": f"mallory/{name}"}
    stage.github.control("POST", "pulls", wish)
    stage.github.control("POST", "clock", {"advance_s": 2})
    return stage.git(work, "rev-parse", "HEAD").strip()


def test_a_fork_s_commit_is_built_once_somebody_with_the_right_approved_it(
    light: Stage, tmp_path: Path, images: Registry
) -> None:
    base = images.push("acme/base", tar_of("base", b"of forks"))
    places = {"registry": f"{images.host}/acme", "base-image": base}
    more = "".join(f"          {name}: {value}\n" for name, value in places.items())
    a_pull_request(light, "forked", tmp_path, more)
    sha = a_fork_s_pull_request(light, "forked")
    wish = {"repo": f"{OWNER}/forked", "number": 2}
    for person, body in (("mallory", f"/cynthus approve {sha}"), (PERSON, "/cynthus run")):
        light.github.control("POST", "comments", wish | {"user": person, "body": body})
    approval = {"user": PERSON, "body": f"/cynthus approve {sha[:7]}"}
    comment = light.github.control("POST", "comments", wish | approval)
    view = until_built(light, light.wait_for_run(sha))
    assert view.trigger == f"comment/{comment['id']}/0"
    assert view.image is not None, view.reason
    assert view.image.startswith(f"{images.host}/acme/forks/asked@sha256:")
    assert "It runs a fork's commit" in view.notices[0]
