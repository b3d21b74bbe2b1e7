"""What a job does around the build: who may start a run, how it is sent, followed and told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from action import specs
from tests.action.world import ROOT, RUN_TOKEN, SHA, World, write_wheel
from tests.registry_fixture import Registry

SPEC = "version: 1\nname: tiny\nrun: python main.py\n"
HEAD = "b" * 40


@pytest.fixture
def processes(world: World, tmp_path: Path) -> dict[str, str]:
    """A machine without Docker: builds are quick, and so are these tests."""
    world.write({"cynthus.yaml": SPEC, "main.py": "print('hello')\n"})
    return {
        "PATH": str(path_without_docker(tmp_path)),
        "CYNTHUS_CACHE_DIR": str(tmp_path / "cache"),
        "CYNTHUS_BUNDLES_DIR": str(tmp_path / "bundles"),
    }


def path_without_docker(folder: Path) -> Path:
    """Make a PATH that has what the Action calls, except Docker."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("git", "env"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    return programs


def pull_request(world: World, *, head_repository: dict[str, Any] | None) -> dict[str, str]:
    head = {"sha": HEAD, "repo": head_repository}
    world.event({"pull_request": {"number": 5, "head": head}, "repository": {"id": 7}})
    return {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF": "refs/pull/5/merge"}


# ── process mode ────────────────────────────────────────────────────────────────────────────────


def test_without_docker_a_bundle_is_made_that_runs_with_its_packages(
    world: World, processes: dict[str, str], tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "cynthus_greeting", "1.0", "TEXT = 'good morning'\n")
    code = "import cynthus_greeting; print(cynthus_greeting.TEXT)\n"
    world.write({"main.py": code, "requirements.txt": "cynthus_greeting==1.0\n", ".env": "S=1"})
    pip = {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    done = world.run(**processes, **pip)
    assert done.returncode == 0, done.stdout + done.stderr

    image = world.submitted[0]["image"]
    bundle = Path(image.removeprefix("file://"))
    assert bundle.is_relative_to(tmp_path / "bundles")
    described = json.loads((bundle / "bundle.json").read_text())
    workspace = bundle / described["workspace"]
    assert sorted(path.name for path in workspace.iterdir()) == [
        "cynthus.yaml",
        "main.py",
        "requirements.txt",
    ]
    python = Path(described["bin"]) / "python"
    ran = subprocess.check_output([python, "main.py"], cwd=workspace, text=True)
    assert ran == "good morning\n"
    for told in (done.stdout, world.summary()):
        assert "no Docker engine answers, so the run is a plain process on this machine" in told


def test_a_second_bundle_shares_the_packages_and_not_the_source(
    world: World, processes: dict[str, str]
) -> None:
    world.run(**processes)
    world.run(**processes)
    one, other = (Path(r["image"].removeprefix("file://")) for r in world.submitted)
    assert one != other
    described = [json.loads((bundle / "bundle.json").read_text()) for bundle in (one, other)]
    assert described[0]["bin"] == described[1]["bin"]
    (one / "workspace" / "main.py").write_text("changed")
    assert (other / "workspace" / "main.py").read_text() == "print('hello')\n"


def test_a_dockerfile_without_docker_is_refused_with_the_remedy(
    world: World, processes: dict[str, str]
) -> None:
    world.write(
        {"cynthus.yaml": SPEC + "image: {dockerfile: Dockerfile}\n", "Dockerfile": "FROM x"}
    )
    done = world.run(**processes)
    assert done.returncode == 2
    assert "image/dockerfile: should be absent where there is no Docker" in done.stdout


def test_an_environment_that_must_be_built_needs_docker_and_the_job_says_so(
    world: World, processes: dict[str, str], registry: Registry
) -> None:
    """A runner whose images go to a registry: a bundle would be of no use to its server."""
    world.write({"cynthus.yaml": SPEC + "image: {system: [ffmpeg]}\n"})
    away = {name: value for name, value in processes.items() if name != "CYNTHUS_BUNDLES_DIR"}
    done = world.run(**away, INPUT_REGISTRY=registry.host)
    assert done.returncode == 1
    assert "docker: should answer, since the environment of this commit is not" in done.stdout
    [request] = world.submitted
    assert "Run this job where Docker is" in request["failure"]


# ── who may start a run ─────────────────────────────────────────────────────────────────────────


def test_a_fork_gets_a_notice_and_a_green_step(world: World, processes: dict[str, str]) -> None:
    fork = pull_request(world, head_repository={"id": 8})
    done = world.run(**processes, **fork, ACTIONS_ID_TOKEN_REQUEST_URL="")
    assert done.returncode == 0
    assert "::notice title=Cynthus::This pull request comes from a fork" in done.stdout
    assert "/cynthus approve bbbbbbb" in done.stdout
    assert world.requests == []
    assert world.outputs() == {"conclusion": "skipped"}


def test_a_deleted_fork_is_a_fork(world: World, processes: dict[str, str]) -> None:
    done = world.run(**processes, **pull_request(world, head_repository=None))
    assert done.returncode == 0
    assert "comes from a fork" in done.stdout


def test_without_the_permission_the_job_fails_before_it_builds_and_says_what_to_add(
    world: World, processes: dict[str, str]
) -> None:
    done = world.run(**processes, ACTIONS_ID_TOKEN_REQUEST_URL="")
    assert done.returncode == 2
    assert "::error::permissions/id-token: should be `write`" in done.stdout
    assert "`permissions: {contents: read, id-token: write}`" in done.stdout
    assert "Bundle" not in done.stdout
    assert "id-token" in world.summary()


@pytest.mark.parametrize("event", ["pull_request_target", "workflow_run", "issue_comment"])
def test_an_event_that_trusts_strangers_code_is_refused(
    world: World, processes: dict[str, str], event: str
) -> None:
    for dry_run in ("false", "true"):
        done = world.run(**processes, GITHUB_EVENT_NAME=event, INPUT_DRY_RUN=dry_run)
        assert done.returncode == 2
        assert f"found `{event}`" in done.stdout
    assert world.requests == []


def test_an_event_that_the_server_takes_no_run_for_builds_only_to_try(
    world: World, processes: dict[str, str]
) -> None:
    done = world.run(**processes, GITHUB_EVENT_NAME="merge_group")
    assert done.returncode == 2
    assert "found `merge_group`, for which no run is started" in done.stdout
    done = world.run(**processes, GITHUB_EVENT_NAME="merge_group", INPUT_DRY_RUN="true")
    assert done.returncode == 0, done.stdout
    assert world.requests == []


@pytest.mark.parametrize(
    ("spec", "environ", "reason"),
    [
        ("", {"GITHUB_REF": "refs/heads/topic"}, "this push is to topic"),
        ("", {"GITHUB_REF": "refs/tags/v1"}, "this push is of refs/tags/v1"),
        ("triggers: {push: {branches: [release]}}\n", {}, "this push is to main"),
    ],
)
def test_a_push_that_the_triggers_do_not_name_builds_nothing(
    world: World, processes: dict[str, str], spec: str, environ: dict[str, str], reason: str
) -> None:
    world.write({"cynthus.yaml": SPEC + spec})
    done = world.run(**processes, **environ)
    assert done.returncode == 0
    assert reason in done.stdout
    assert world.requests == []


def test_changed_paths_come_from_git_where_the_event_leaves_them_out(
    world: World, processes: dict[str, str]
) -> None:
    folder = world.write(
        {"cynthus.yaml": SPEC + "triggers: {push: {paths: ['src/**']}}\n", "README": "one\n"}
    )
    before = commit(folder)
    world.write({"README": "two\n"})
    after = commit(folder)
    world.event({"before": before, "commits": [{"id": after}], "repository": {"id": 7}})
    skipped = world.run(**processes, GITHUB_SHA=after)
    assert "no changed file matches src/**" in skipped.stdout
    world.write({"src/model.py": "x = 1\n"})
    wanted = world.run(**processes, GITHUB_SHA=commit(folder))
    assert wanted.returncode == 0
    assert len(world.submitted) == 1


def test_the_time_of_a_commit_is_gits_and_none_where_git_does_not_know_it(
    world: World, processes: dict[str, str]
) -> None:
    folder = world.write({"a": "b"})
    sha = commit(folder)
    words = ["git", "-C", str(folder), "show", "-s", "--format=%ct"]
    assert specs.committed_s(folder, sha) == int(subprocess.check_output(words))
    assert specs.committed_s(folder, "0" * 40) == 0
    assert specs.committed_s(folder, "--output=x") == 0


def commit(folder: Path) -> str:
    """Commit everything, and return the commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Change"], check=True)
    return subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_pull_request_runs_only_where_the_spec_says_push(
    world: World, processes: dict[str, str]
) -> None:
    environ = pull_request(world, head_repository={"id": 7})
    waiting = world.run(**processes, **environ)
    assert waiting.returncode == 0
    assert "run only on `/cynthus run`" in waiting.stdout
    world.write({"cynthus.yaml": SPEC + "triggers: {pull_request: push}\n"})
    assert world.run(**processes, **environ).returncode == 0
    [request] = world.submitted
    assert request["commit_sha"] == HEAD  # and not GITHUB_SHA, the test merge
    assert request["trigger"] == "pull_request/5"
    assert request["pull_request"] == 5


# ── bad input ───────────────────────────────────────────────────────────────────────────────────


def test_every_fault_of_the_spec_is_an_annotation_on_its_line(
    world: World, processes: dict[str, str]
) -> None:
    world.write({"cynthus.yaml": "version: 2\nname: Tiny\nrun: python main.py\ncolour: red\n"})
    done = world.run(**processes)
    assert done.returncode == 2
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error ")]
    assert [_property(line, "line") for line in errors] == ["1", "2", "4"]
    assert all(_property(line, "file") == "cynthus.yaml" for line in errors)
    assert world.requests == []


def _property(command: str, name: str) -> str:
    listed = command.split("::")[1].partition(" ")[2]
    return dict(part.split("=", 1) for part in listed.split(","))[name]


def test_every_bad_input_is_told_at_once(world: World, processes: dict[str, str]) -> None:
    done = world.run(
        **processes,
        INPUT_SERVER="http://cynthus.example.org",
        INPUT_WAIT="yes",
        INPUT_REGISTRY="GHCR.io/Acme",
        INPUT_USERNAME="me",
        INPUT_SPEC="../other.yaml",
        INPUT_WAIT_TIMEOUT="soon",
    )
    assert done.returncode == 2
    lines = [line for line in done.stdout.splitlines() if line.startswith("::error::with/")]
    names = sorted(line.removeprefix("::error::with/").split(":")[0] for line in lines)
    assert names == ["password", "registry", "server", "spec", "wait", "wait-timeout"]
    assert all("should be" in line and "found" in line for line in lines)


def test_a_requirements_file_with_an_option_or_an_address_is_refused_on_its_lines(
    world: World, processes: dict[str, str]
) -> None:
    lines = ["numpy", "--index-url https://evil.example", "", "git+https://x/y.git", "-e .", ""]
    world.write({"requirements.txt": "\n".join(lines)})
    done = world.run(**processes)
    assert done.returncode == 2
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error ")]
    assert [_property(line, "line") for line in errors] == ["2", "4", "5"]
    assert {_property(line, "file") for line in errors} == {"requirements.txt"}


def test_no_sentence_carries_a_secrets_value_to_the_server_or_unmasked_to_the_log(
    world: World, processes: dict[str, str]
) -> None:
    """Other programs write half of what is told of a failure: here a package is called so."""
    world.write({"requirements.txt": "the-canary==1\nthe-password==1\nthe-secret==1\n"})
    done = world.run(
        **processes,
        UV_INDEX="corp=http://ada:the-canary@127.0.0.1:9/simple",
        PIP_NO_INDEX="1",
        PIP_CONFIG_FILE=os.devnull,
        INPUT_USERNAME="ada",
        INPUT_PASSWORD="the-password",
    )
    assert done.returncode == 1
    failure = world.submitted[0]["failure"]
    assert "no package fits `***==1`" in failure
    assert "the-canary" not in failure
    mask = done.stdout.index("::add-mask::the-canary\n")
    assert mask < done.stdout.index("the-canary==1")


def test_a_missing_spec_says_how_to_get_one(world: World, processes: dict[str, str]) -> None:
    done = world.run(**processes, INPUT_SPEC="absent.yaml")
    assert done.returncode == 2
    assert "absent.yaml: should be a readable file" in done.stdout
    assert "cynthus init" in done.stdout


# ── sending ─────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_away_is_asked_again_with_a_fresh_token(
    world: World, processes: dict[str, str]
) -> None:
    world.statuses = [(503, {}), (429, {})]
    done = world.run(**processes)
    assert done.returncode == 0, done.stdout
    posts = [r for r in world.requests if r.method == "POST"]
    assert [post.token for post in posts] == [f"header.cynthus.{n}" for n in (1, 2, 3)]
    assert posts[0].body == posts[2].body


def test_a_refusal_of_the_server_is_told_and_not_repeated(
    world: World, processes: dict[str, str]
) -> None:
    message = "repository 7: should be among CYNTHUS_ALLOWED. Ask the server's owner."
    world.statuses = [(403, {"error": {"code": "forbidden", "message": message}})]
    done = world.run(**processes)
    assert done.returncode == 3
    assert f"refuses the run (403): {message}" in done.stdout
    assert len(world.submitted) == 1


def test_faults_the_server_finds_are_annotations_on_their_lines(
    world: World, processes: dict[str, str]
) -> None:
    fault = {"path": "cynthus.yaml", "line": 3, "column": 6, "where": "data/0", "message": "no"}
    world.statuses = [(422, {"error": {"code": "spec", "message": "bad", "faults": [fault]}})]
    done = world.run(**processes)
    assert done.returncode == 2
    assert "::error title=data/0,file=cynthus.yaml,line=3,col=6::no" in done.stdout


def test_a_redirect_does_not_carry_the_token_elsewhere(
    world: World, processes: dict[str, str]
) -> None:
    world.statuses = [(307, {})]
    done = world.run(**processes)
    assert done.returncode == 3
    assert "with/server: should be the server's own address" in done.stdout


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────


def event(seq: int, kind: str, **body: Any) -> dict[str, Any]:
    moment = "2026-01-31T12:00:00Z"
    return {"seq": seq, "at": moment, "attempt": 1, "kind": kind, "body": body}


def view(outcome: str, reason: str) -> dict[str, Any]:
    return {
        "id": "r1",
        "name": "tiny",
        "repository": "Acme/Train",
        "commit_sha": SHA,
        "trigger": "push",
        "state": "finished",
        "outcome": outcome,
        "cause": None,
        "reason": reason,
        "created_at": "2026-01-31T12:00:00Z",
        "state_since": "2026-01-31T12:00:00Z",
        "finished_at": "2026-01-31T12:00:00Z",
        "progress": 1.0,
        "phase": "train",
        "metrics": {"accuracy": 0.97},
        "cost_usd": "0.10",
        "image": None,
        "notices": [],
        "attempts": [],
        "outputs": [{"path": "model.pt", "size_bytes": 3, "sha256": "0" * 64, "url": None}],
        "release_url": "https://github.com/Acme/Train/releases/tag/tiny",
        "url": "https://cynthus.example.org/runs/r1",
    }


def test_waiting_prints_the_run_and_takes_its_conclusion(
    world: World, processes: dict[str, str]
) -> None:
    world.events = [
        event(1, "state", state="running", outcome=None, reason=None),
        event(2, "phase", name="train"),
        event(3, "metric", name="accuracy", step=1, value=0.97),
        event(4, "log", text="epoch 1\n::error::not yours\n##[error]nor this\n"),
        event(5, "state", state="finished", outcome="succeeded", reason="exit 0"),
    ]
    world.view = view("succeeded", "exit 0")
    done = world.run(**processes, INPUT_WAIT="true")
    assert done.returncode == 0, done.stdout
    assert world.outputs()["conclusion"] == "success"
    assert "phase train" in done.stdout
    assert "accuracy = 0.97 at step 1" in done.stdout
    assert commands_that_take_effect(done.stdout, "error") == []
    assert "epoch 1" in done.stdout
    assert "| accuracy | 0.97 |" in world.summary()
    reads = [r for r in world.requests if r.path.startswith("/api/v1/runs/r1")]
    assert {read.token for read in reads} == {RUN_TOKEN}


def commands_that_take_effect(log: str, name: str) -> list[str]:
    """Read a log as the runner does: nothing counts between stop-commands and its word."""
    found, stopped = [], None
    for line in log.splitlines():
        if stopped is not None:
            stopped = None if line == f"::{stopped}::" else stopped
        elif line.startswith("::stop-commands::"):
            stopped = line.removeprefix("::stop-commands::")
        elif line.startswith((f"::{name}", f"##[{name}")):
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("outcome", "conclusion"),
    [
        ("failed", "failure"),
        ("cancelled", "cancelled"),
        ("timed_out", "timed_out"),
        ("over_budget", "action_required"),
        ("infrastructure", "failure"),
    ],
)
def test_a_run_that_does_not_succeed_fails_the_step(
    world: World, processes: dict[str, str], outcome: str, conclusion: str
) -> None:
    world.events = [event(1, "state", state="finished", outcome=outcome, reason="it broke")]
    world.view = view(outcome, "it broke")
    done = world.run(**processes, INPUT_WAIT="true")
    assert done.returncode == 1
    assert world.outputs()["conclusion"] == conclusion
    assert f"run r1 ended as {conclusion}: it broke" in done.stdout


def test_the_job_does_not_wait_longer_than_it_was_told(
    world: World, processes: dict[str, str]
) -> None:
    world.events = [event(1, "state", state="running", outcome=None, reason=None)]
    done = world.run(**processes, INPUT_WAIT="true", INPUT_WAIT_TIMEOUT="1s")
    assert done.returncode == 2
    assert "the run has not finished within 0:00:01; it goes on" in done.stdout


def test_cancelling_a_job_that_waits_cancels_the_run(
    world: World, processes: dict[str, str]
) -> None:
    world.events = [event(1, "state", state="running", outcome=None, reason=None)]
    environ = {**world.environment(**processes, INPUT_WAIT="true"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-P", "-m", "action"]
    with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, text=True) as step:
        assert step.stdout is not None
        for line in step.stdout:
            if "running" in line:
                break
        step.send_signal(signal.SIGINT)
        rest = step.stdout.read()
    assert step.returncode == 130
    assert "the run is cancelled too" in rest
    cancels = [r for r in world.requests if r.path == "/api/v1/runs/r1/cancel"]
    assert [cancel.token for cancel in cancels] == [RUN_TOKEN]


# ── the step as a runner starts it ──────────────────────────────────────────────────────────────


def start(world: World, processes: dict[str, str], folder: Path, python3: str) -> str:
    """Start the Action as a runner does whose `python3` is a script; return what it prints."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "python3").write_text(f"#!/bin/sh\n{python3}\n")
    (programs / "python3").chmod(0o755)
    environ = world.environment(**{**processes, "PATH": f"{programs}:{os.environ['PATH']}"})
    environ |= {
        "GITHUB_ACTION_PATH": str(ROOT),
        "RUNNER_TEMP": str(folder / "temp"),
        "GITHUB_REF": "refs/heads/topic",  # ends before it builds
    }
    done = subprocess.run(
        [ROOT / "action" / "start.sh"],
        env=environ,
        cwd=environ["GITHUB_WORKSPACE"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this push is to topic" in done.stdout
    return done.stdout


def test_the_start_script_installs_the_lock_once_for_a_python_without_pyyaml(
    world: World, processes: dict[str, str], tmp_path: Path
) -> None:
    # -S: nothing beside the standard library, but for pip.
    bare = f'[ "$2" = pip ] && exec {sys.executable} "$@"\nexec {sys.executable} -S "$@"'
    assert "Set up" in start(world, processes, tmp_path, bare)
    assert "Set up" not in start(world, processes, tmp_path, bare)


def test_the_start_script_installs_nothing_where_python_has_pyyaml(
    world: World, processes: dict[str, str], tmp_path: Path
) -> None:
    assert "Set up" not in start(world, processes, tmp_path, f'exec {sys.executable} "$@"')
    assert not (tmp_path / "temp").exists()
