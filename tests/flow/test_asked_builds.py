"""A comment's run gets its image: dispatch, workflow, Action, run request, all as processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cynthus import specfile
from cynthus.wire import RunView
from demo.stage import OWNER, Stage, standing
from tests.flow.conftest import HASTE, judge
from webhook_server.runs.model import Origin, RunDraft, RunKey
from webhook_server.stores.database import Database
from webhook_server.stores.run_store import RunStore

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
        with: {server: "${{ vars.CYNTHUS_SERVER }}"}
"""
LIMIT_S = 60.0  # seconds as a rule; a busy machine gets a minute


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("asked")
    with standing(folder, settings=HASTE, process=True) as stage:
        yield stage
        judge(stage)


def a_repository(stage: Stage, name: str, folder: Path) -> tuple[int, str]:
    """Push the workflow to the default branch, and a change to a topic; return id and its head."""
    repository_id = stage.create_repository(name)
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / ".github/workflows/cynthus.yml").write_text(WORKFLOW)
    (folder / "cynthus.yaml").write_text(SPEC)
    (folder / "main.py").write_text("print('main')\n")
    stage.push(name, folder)
    work = stage.folder / "work" / name
    (work / "main.py").write_text("print('of the topic')\n")
    stage.git(work, "commit", "--quiet", "--all", "--message", "A change")
    stage.git(work, "push", "--quiet", "origin", "HEAD:topic")
    stage.github.control("POST", "pulls", {"repo": f"{OWNER}/{name}", "head": "topic"})
    return repository_id, stage.git(work, "rev-parse", "HEAD").strip()


def asked_by_a_comment(stage: Stage, name: str, repository_id: int, sha: str) -> str:
    """Accept a run as a comment starts one, while the server is away: nothing built its image."""
    draft = RunDraft(
        id=f"{name}00000001"[:12],
        key=RunKey(
            repository_id=repository_id,
            commit_sha=sha,
            spec_path="cynthus.yaml",
            trigger="comment/2500000001/0",
        ),
        repository=f"{OWNER}/{name}",
        ref="refs/pull/1/head",
        event="issue_comment",
        default_branch="main",
        pull_request=1,
        workflow_run_url=None,
        spec=specfile.parse(SPEC.encode(), "cynthus.yaml"),
        spec_text=SPEC,
        origin=Origin(asked_by="mira", wants_build=True),
    )
    assert stage.server.program is not None
    stage.server.program.stop()
    now = datetime.now(UTC)
    database = Database(f"sqlite:///{stage.server.state}/cynthus.db", now=lambda: now)
    run_id = RunStore(database).accept(draft, arrived=None, token_id=None, now=now).run_id
    database.close()
    stage.server.start()
    return run_id


def until_built(stage: Stage, run_id: str) -> RunView:
    tick = threading.Event()
    for _ in range(int(LIMIT_S / 0.1)):
        view = stage.client.get(run_id)
        if view.state != "building":
            return view
        tick.wait(0.1)
    raise AssertionError(f"run {run_id} is still building:\n{stage.runner.tail()}")


def test_a_run_that_nothing_builds_is_built_by_the_default_branch_s_workflow(
    light: Stage, tmp_path: Path
) -> None:
    repository_id, sha = a_repository(light, "asked", tmp_path)
    run_id = asked_by_a_comment(light, "asked", repository_id, sha)
    view = until_built(light, run_id)
    assert view.image is not None, view.reason
    workspace = Path(view.image.removeprefix("file://")) / "workspace"
    assert (workspace / "main.py").read_text() == "print('of the topic')\n"
    assert view.trigger == "comment/2500000001/0"
    assert [row["id"] for row in light.client.list(limit=20)] == [run_id]
