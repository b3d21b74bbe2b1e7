"""`python -m action build`: the builder that `cynthus run` starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.action.engine_fixture import DockerEngine
from tests.action.test_jobs import path_without_docker
from tests.action.world import ROOT
from tests.registry_fixture import Registry

SPEC = "version: 1\nname: tiny\nrun: python main.py\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "cynthus.yaml").write_text(SPEC)
    (path / "main.py").write_text("print('hello')\n")
    return path


def build(folder: Path, *words: str, **environ: str) -> tuple[int, dict[str, Any], str]:
    """Build what stays here, and return the exit code, the answer and the progress."""
    return call(folder, "--no-push", *words, **environ)


def call(folder: Path, *words: str, **environ: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "action", "build", "--json", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.docker
def test_an_image_stays_in_the_engine_under_its_id(
    folder: Path, docker_engine: DockerEngine, offline_base: str, cache_dir: Path
) -> None:
    words = ("--base-image", offline_base)
    code, answer, progress = build(folder, *words, CYNTHUS_CACHE_DIR=str(cache_dir))
    assert code == 0, progress
    assert answer["image"].startswith("sha256:")
    assert answer["engine"] == "docker"
    assert answer["base"] == offline_base
    assert answer["seconds"] > 0
    told = docker_engine.run(
        "run", "--rm", "--network", "none", answer["image"], "python", "main.py"
    )
    assert told == "hello"
    assert "Run image" in progress
    again = build(folder, *words, CYNTHUS_CACHE_DIR=str(cache_dir))[1]
    assert again["cached"] is True
    assert again["image"] == answer["image"]


@pytest.mark.docker
def test_an_image_is_pushed_under_the_name_that_is_given(
    folder: Path, docker_engine: DockerEngine, registry: Registry, image: str, tmp_path: Path
) -> None:
    base = f"{registry.host}/acme/local-base:1"
    docker_engine.run("tag", image, base)
    docker_engine.run("push", base)
    docker_engine.run("rmi", base)
    name = f"{registry.host}/acme/pushed"
    cache = {
        "CYNTHUS_CACHE_DIR": str(tmp_path / "cache"),
        "PATH": str(path_without_docker(tmp_path)),
    }
    code, answer, progress = call(folder, "--push", f"{name}:1", "--base-image", base, **cache)
    assert code == 0, progress
    digest, manifest = registry.manifest("acme/pushed", "1")
    assert answer["image"] == f"{name}@{digest}"
    assert answer["size_bytes"] == sum(layer["size"] for layer in manifest["layers"])
    config = json.loads(registry.blob("acme/pushed", manifest["config"]["digest"]))
    assert config["created"] == "1970-01-01T00:00:00Z"  # no commit, no time: equal bytes


def test_a_process_bundle_goes_where_it_is_told(folder: Path, tmp_path: Path) -> None:
    code, answer, _ = build(
        folder, "--process", "--out", str(tmp_path / "out"), CYNTHUS_CACHE_DIR=str(tmp_path / "c")
    )
    assert code == 0
    assert answer["engine"] == "process"
    bundle = Path(answer["image"].removeprefix("file://"))
    assert bundle.is_relative_to(tmp_path / "out")
    assert (bundle / "workspace" / "main.py").is_file()
    assert answer["notes"] == [
        "a plain process was asked for, so the run is a plain process on this machine, "
        "without a container"
    ]


def test_faults_of_the_spec_go_to_stderr_with_their_places(folder: Path) -> None:
    (folder / "cynthus.yaml").write_text("version: 1\nname: Tiny\n")
    code, answer, progress = build(folder)
    assert code == 2
    assert "cynthus.yaml:2:" in progress
    assert "name" in answer["failure"]


def test_a_failed_build_says_why(folder: Path, tmp_path: Path) -> None:
    (folder / "requirements.txt").write_text("cynthus-absent-package==1\n")
    no_index = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    code, answer, _ = build(
        folder, "--process", "--out", str(tmp_path), CYNTHUS_CACHE_DIR=str(tmp_path), **no_index
    )
    assert code == 1
    assert "no package fits `cynthus-absent-package==1`" in answer["failure"]


def test_two_builds_at_once_make_one_environment(folder: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> dict[str, Any]:
        out = str(tmp_path / f"out{number}")
        words = ("--process", "--out", out)
        return build(folder, *words, CYNTHUS_CACHE_DIR=str(tmp_path / "cache"))[1]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, (1, 2)))
    bundles = [Path(answer["image"].removeprefix("file://")) for answer in answers]
    described = [json.loads((bundle / "bundle.json").read_text()) for bundle in bundles]
    assert described[0]["bin"] == described[1]["bin"]
    assert sorted(answer["cached"] for answer in answers) == [False, True]


def test_a_folder_that_cannot_be_written_is_a_failure_with_its_name(folder: Path) -> None:
    code, answer, _ = build(folder, "--process", CYNTHUS_CACHE_DIR="/proc/absent")
    assert code == 1
    assert "the builder's machine: /proc/absent" in answer["failure"]
