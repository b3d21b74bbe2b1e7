"""Private data of a hub becomes a release: pinned, staged, kept for the next run, named in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.__main__ import published_release, wait_for_check
from demo.stage import Stage, standing
from tests.flow.conftest import HASTE, judge
from tests.flow.test_hostile_run import set_secret
from tests.flow.test_push_to_release import (
    asset_bytes,
    light_repository,
    run_to_its_end,
    sha256,
)
from tests.hub_fixture import Hub

TOKEN = "hf_a_secret_of_ada"
TABLE = "".join(f"{number},{number % 7}\n" for number in range(1000))
# Says what it sees of its data, and makes results that are nothing but what the data says.
TRAIN = """\
import hashlib, os, pathlib
data = pathlib.Path(os.environ["CYNTHUS_DATA"])
words = (data / "words").resolve()
found = sorted(p.relative_to(words).as_posix() for p in words.rglob("*") if p.is_file())
print("found", *found)
print("token", os.environ.get("HF_TOKEN", "absent"))
rows = [line.split(",") for line in (words / "d/table.csv").read_text().split()]
outputs = pathlib.Path(os.environ["CYNTHUS_OUTPUTS"])
outputs.joinpath("sum.txt").write_text(str(sum(int(value) for _, value in rows)))
weights = (words / "model.safetensors").read_bytes()
outputs.joinpath("weights.txt").write_text(hashlib.sha256(weights).hexdigest())
print(f"::metric name=rows,step=1::{len(rows)}")
"""
SPEC = """\
data:
  - {name: words, source: "hf://datasets/acme/words", exclude: ["raw/*"]}
"""


@dataclass(frozen=True, kw_only=True)
class World:
    """A stage beside a hub."""

    stage: Stage
    hub: Hub
    folder: Path

    def downloads(self) -> list[str]:
        """Name what the hub handed out of files since it forgot."""
        paths = (line["path"] for line in self.hub.seen("GET"))
        return [path for path in paths if "/resolve" in path or "/lfs/" in path]

    def forget_disk(self) -> None:
        """Be another machine: nothing of the data is on this one's disk."""
        shutil.rmtree(self.stage.server.state / "cache")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("data")
    hub = Hub(folder / "hub")
    settings = {**HASTE, "CYNTHUS_HF_URL": hub.url}
    try:
        hub.make("hf/users", name="ada", token=TOKEN)
        with standing(folder / "stage", settings=settings, process=True) as stage:
            yield World(stage=stage, hub=hub, folder=folder)
            judge(stage)
    finally:
        hub.stop()


def repository(world: World, name: str) -> Path:
    source = light_repository(world.folder, name, "python3 train.py")
    with (source / "cynthus.yaml").open("a", encoding="utf-8") as spec:
        spec.write(SPEC)
    (source / "train.py").write_text(TRAIN, "utf-8")
    return source


def log_of(stage: Stage, release: dict[str, Any], name: str) -> str:
    assets = {asset["name"]: asset for asset in release["assets"]}
    return asset_bytes(stage, name, assets["log.txt"]).decode()


@pytest.mark.slow
@pytest.mark.case("A14")
def test_private_data_comes_once_from_its_hub_and_stands_in_the_release(world: World) -> None:
    stage, hub = world.stage, world.hub
    seed = {"size": 3 << 20, "seed": 7}
    files = {"d/table.csv": TABLE, "model.safetensors": seed, "raw/scan.txt": "left out"}
    made = hub.make(
        "hf/repos", type="dataset", name="acme/words", private=True, readers=["ada"], files=files
    )
    set_secret(stage, stage.create_repository("reads"), "HF_TOKEN", TOKEN)
    hub.forget()
    source = repository(world, "reads")

    first = stage.push("reads", source)
    view = run_to_its_end(stage, first)

    assert (view.state, view.outcome) == ("finished", "succeeded"), view.reason
    assert world.downloads(), "nothing came from the hub"
    release = published_release(stage, "reads")
    assert release is not None
    assets = {asset["name"]: asset_bytes(stage, "reads", asset) for asset in release["assets"]}
    assert assets["outputs-sum.txt"] == str(sum(number % 7 for number in range(1000))).encode()
    (known,) = (file for path, file in made["files"].items() if path == "model.safetensors")
    assert assets["outputs-weights.txt"].decode() == known["sha256"]
    manifest = json.loads(assets["manifest.json"])
    assert [entry["revision"] for entry in manifest["data"]] == [made["commit"]]
    log = log_of(stage, release, "reads")
    assert "found .gitattributes d/table.csv model.safetensors\n" in log
    assert "token absent\n" in log
    check = wait_for_check(stage, "reads", first)
    assert made["commit"][:7] in json.dumps(check["output"])

    # Another machine, another commit, the same revision: all of it comes from the blob store.
    world.forget_disk()
    hub.forget()
    (source / "README.md").write_text("The same data.\n")
    again = run_to_its_end(stage, stage.push("reads", source))

    assert again.outcome == "succeeded", again.reason
    assert world.downloads() == []
    assert again.metrics["rows"] == 1000
    second = {output.path: output.sha256 for output in again.outputs}
    assert second == {output.path: output.sha256 for output in view.outputs}

    # The branch moves: the next run stands on the new commit, and only what is new comes.
    world.forget_disk()
    moved = hub.make(
        "hf/commits", type="dataset", name="acme/words", files={"d/table.csv": "1,1\n2,2\n"}
    )
    hub.forget()
    (source / "README.md").write_text("Other data.\n")
    third = run_to_its_end(stage, stage.push("reads", source))

    assert third.outcome == "succeeded", third.reason
    assert third.metrics["rows"] == 2
    sums = {output.path: output.sha256 for output in third.outputs}
    assert sums["outputs/sum.txt"] == sha256(b"3")
    release = published_release(stage, "reads")
    assert release is not None
    told = {asset["name"]: asset for asset in release["assets"]}["manifest.json"]
    manifest = json.loads(asset_bytes(stage, "reads", told))
    assert [entry["revision"] for entry in manifest["data"]] == [moved["commit"]]


@pytest.mark.slow
def test_data_behind_a_gate_says_where_to_go_before_anything_is_ordered(world: World) -> None:
    stage = world.stage
    world.hub.make(
        "hf/repos", type="dataset", name="acme/closed", gated="manual", files={"a.txt": "a"}
    )
    set_secret(stage, stage.create_repository("gated"), "HF_TOKEN", TOKEN)
    source = repository(world, "gated")
    spec = (source / "cynthus.yaml").read_text("utf-8")
    (source / "cynthus.yaml").write_text(spec.replace("acme/words", "acme/closed"), "utf-8")

    commit = stage.push("gated", source)
    view = run_to_its_end(stage, commit)

    assert (view.outcome, view.cause) == ("failed", "data")
    assert view.attempts == ()
    page = f"{world.hub.url}/datasets/acme/closed"
    assert page in (view.reason or "")
    check = wait_for_check(stage, "gated", commit)
    assert check["conclusion"] == "failure"
    assert page in check["output"]["summary"]
