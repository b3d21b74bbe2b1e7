"""The same push on other grounds: PostgreSQL, no Docker engine, an Action that waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from demo.__main__ import published_release, wait_for_check
from demo.stage import OWNER, Stage, standing
from tests.flow.conftest import HASTE, judge
from tests.flow.test_push_to_release import light_repository, run_to_its_end
from tests.postgres_fixture import a_database, a_server

RUN = "echo ::metric name=answer::42\nmkdir -p outputs\necho model > outputs/model.txt"


def assert_released(stage: Stage, name: str, folder: Path) -> None:
    stage.create_repository(name)
    commit = stage.push(name, light_repository(folder, name, RUN))
    stage.wait_for_image(stage.wait_for_run(commit))
    view = run_to_its_end(stage, commit)
    assert view.outcome == "succeeded", view.reason
    assert view.metrics == {"answer": 42}
    assert wait_for_check(stage, name, commit)["conclusion"] == "success"
    assert published_release(stage, name) is not None


@pytest.mark.slow
@pytest.mark.postgres
def test_a_push_is_released_on_postgresql(tmp_path: Path) -> None:
    with a_server() as server_url:
        settings = {"CYNTHUS_DATABASE_URL": a_database(server_url), **HASTE}
        with standing(tmp_path / "stage", settings=settings) as stage:
            assert_released(stage, "on-postgres", tmp_path)
            judge(stage)


def test_a_push_is_released_without_a_docker_engine_and_says_so(tmp_path: Path) -> None:
    with standing(tmp_path / "stage", settings=HASTE, process=True) as stage:
        assert_released(stage, "as-process", tmp_path)
        token = stage.installation_token()
        commit = stage.client.list(limit=1)[0]["commit_sha"]
        checks = stage.github.get(f"repos/{OWNER}/as-process/commits/{commit}/check-runs", token)
        ours = next(c for c in checks["check_runs"] if c["app"]["id"] == stage.app_id)
        assert "plain process" in ours["output"]["summary"]


@pytest.mark.parametrize(("command", "conclusion"), [("true", "success"), ("exit 4", "failure")])
def test_an_action_that_waits_takes_the_runs_conclusion(
    stage: Stage, tmp_path: Path, command: str, conclusion: str
) -> None:
    name = f"waits-{conclusion}"
    source = light_repository(tmp_path, name, command)
    workflow = source / ".github/workflows/cynthus.yml"
    text = workflow.read_text("utf-8")
    waiting = text.replace("server: ${{", 'wait: "true"\n          server: ${{')
    workflow.write_text(waiting, "utf-8")
    stage.create_repository(name)
    commit = stage.push(name, source)

    run_to_its_end(stage, commit)

    assert wait_for_job(stage, name, commit) == conclusion


def wait_for_job(stage: Stage, name: str, commit: str) -> str:
    """Return the conclusion of the workflow's own check run, which follows ours."""

    tick = threading.Event()
    for _ in range(600):
        token = stage.installation_token()
        answer = stage.github.get(f"repos/{OWNER}/{name}/commits/{commit}/check-runs", token)
        jobs = [c for c in answer["check_runs"] if c["app"]["id"] != stage.app_id]
        if jobs and jobs[0]["status"] == "completed":
            return str(jobs[0]["conclusion"])
        tick.wait(0.2)
    raise AssertionError("the workflow run did not end")
