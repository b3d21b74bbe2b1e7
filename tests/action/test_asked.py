"""The Action's step for a build that the server asked for, as the runner runs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.action.test_jobs import SPEC, path_without_docker
from tests.action.test_publish import tar_of
from tests.action.world import World
from tests.github_fixture import git
from tests.registry_fixture import Registry


@pytest.fixture
def job(world: World, tmp_path: Path, registry: Registry) -> dict[str, str]:
    """A runner without Docker, and a base that needs nothing added: the image is put together."""
    folder = world.write({"cynthus.yaml": SPEC, "main.py": "print('hello')\n"})
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    base = registry.push("acme/base", tar_of("base", tmp_path.name.encode()))
    return {
        "PATH": str(path_without_docker(tmp_path)),
        "CYNTHUS_CACHE_DIR": str(tmp_path / "cache"),
        "INPUT_BASE_IMAGE": base,
        "INPUT_REGISTRY": registry.host,
    }


def asked_for(world: World, **told: Any) -> dict[str, str]:
    """Hand the job the event of a dispatch; the commit is what is checked out unless told."""
    head = git(world.folder / "repository", "rev-parse", "HEAD")
    payload = {
        "run_id": "arun00000001",
        "commit_sha": head,
        "spec_path": "cynthus.yaml",
        "trigger": "comment/77/0",
        "pull_request": 5,
        "fork": False,
    }
    world.event(
        {
            "action": "cynthus",
            "branch": "main",
            "client_payload": payload | told,
            "repository": {"id": 7, "default_branch": "main"},
        }
    )
    return {"GITHUB_EVENT_NAME": "repository_dispatch"}


def test_what_was_asked_for_is_built_and_brought_to_its_run(
    world: World, job: dict[str, str], registry: Registry
) -> None:
    done = world.run(**job, **asked_for(world))
    assert done.returncode == 0, done.stdout + done.stderr
    head = git(world.folder / "repository", "rev-parse", "HEAD")
    digest, _ = registry.manifest("acme/train/tiny", head)
    [request] = world.submitted
    assert request["image"] == f"{registry.host}/acme/train/tiny@{digest}"
    wanted = ("event", "trigger", "pull_request", "commit_sha", "ref", "spec_text")
    assert [request[name] for name in wanted] == [
        "repository_dispatch",
        "comment/77/0",
        5,
        head,
        "refs/heads/main",
        SPEC,
    ]


def test_triggers_are_not_asked_since_a_person_asked(world: World, job: dict[str, str]) -> None:
    folder = world.write({"cynthus.yaml": SPEC + "triggers: {push: {branches: [never]}}\n"})
    git(folder, "commit", "--quiet", "--all", "--message", "y")
    assert world.run(**job, **asked_for(world)).returncode == 0
    assert len(world.submitted) == 1


def test_another_checkout_is_refused_and_the_run_is_told(world: World, job: dict[str, str]) -> None:
    done = world.run(**job, **asked_for(world, commit_sha="c" * 40))
    assert done.returncode == 2
    assert "actions/checkout: should check out cccccccc" in done.stdout
    [request] = world.submitted
    assert request["image"] is None
    assert "client_payload.commit_sha" in request["failure"]
    assert request["commit_sha"] == "c" * 40


def test_a_spec_of_another_step_is_left_to_it(world: World, job: dict[str, str]) -> None:
    done = world.run(**job, **asked_for(world, spec_path="training/cynthus.yaml"))
    assert done.returncode == 0
    assert "the server asks for training/cynthus.yaml" in done.stdout.lower()
    assert world.submitted == []


def test_a_dispatch_of_another_kind_is_refused(world: World, job: dict[str, str]) -> None:
    world.event({"action": "deploy", "client_payload": {}, "repository": {"id": 7}})
    done = world.run(**job, GITHUB_EVENT_NAME="repository_dispatch")
    assert done.returncode == 2
    assert "types: [cynthus]" in done.stdout
    assert world.requests == []


def test_a_fork_s_image_lies_apart_and_asks_for_no_lease_and_no_lock(
    world: World, job: dict[str, str], registry: Registry
) -> None:
    done = world.run(**job, **asked_for(world, fork=True))
    assert done.returncode == 0, done.stdout + done.stderr
    [request] = world.submitted
    assert request["image"].startswith(f"{registry.host}/acme/train/forks/tiny@sha256:")
    asked = {one.path for one in world.requests if one.path.startswith("/api/")}
    assert asked <= {"/api/v1/runs", "/api/v1/images"}


def test_a_fork_s_own_dockerfile_is_refused_and_the_run_is_told(
    world: World, job: dict[str, str]
) -> None:
    image = "image: {dockerfile: Dockerfile}\n"
    folder = world.write({"cynthus.yaml": SPEC + image, "Dockerfile": "FROM scratch\n"})
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "y")
    done = world.run(**job, **asked_for(world, fork=True))
    assert done.returncode == 2
    [request] = world.submitted
    assert "image/dockerfile: should be left out in a fork's commit" in request["failure"]


def test_a_fork_s_commit_never_becomes_a_plain_process(
    world: World, job: dict[str, str], tmp_path: Path
) -> None:
    bundles = tmp_path / "bundles"
    away = {name: value for name, value in job.items() if name != "INPUT_BASE_IMAGE"}
    world.write({"requirements.txt": ""})
    done = world.run(**away, **asked_for(world, fork=True), CYNTHUS_BUNDLES_DIR=str(bundles))
    assert done.returncode == 1, done.stdout
    assert not bundles.exists() or not os.listdir(bundles)
    assert world.submitted[0]["image"] is None
