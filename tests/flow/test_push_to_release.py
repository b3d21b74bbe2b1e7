"""One push becomes a finished run: check run, metrics, release with the trained model."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cynthus.wire import RunView
from demo.__main__ import published_release, wait_for_check
from demo.stage import OWNER, ROOT, Stage

EXAMPLES = ROOT / "examples"
# What each example promises in its README, a little lower: its seeds are fixed, its BLAS is not.
PROMISED_ACCURACY = {"digits": 0.92, "digits-pytorch": 0.90}


def run_to_its_end(stage: Stage, commit: str) -> RunView:
    run_id = stage.wait_for_run(commit)
    for event in stage.client.follow(run_id):
        if event.kind == "state" and event.body.get("state") == "finished":
            break
    return stage.client.get(run_id)


def asset_bytes(stage: Stage, name: str, asset: dict[str, Any]) -> bytes:
    return stage.github.download(
        f"repos/{OWNER}/{name}/releases/assets/{asset['id']}", stage.installation_token()
    )


def containers(stage: Stage, run_id: str) -> list[str]:
    """Name the instances of a run that still have a container."""
    if not stage.engine.client:
        return []
    words = [stage.engine.client, "ps", "--all", "--format", '{{.Label "cynthus.instance"}}']
    answer = subprocess.run(words, capture_output=True, text=True, check=True)
    return [name for name in answer.stdout.split() if name.startswith(f"cynthus-{run_id}-")]


@pytest.mark.slow
def test_a_push_of_an_example_ends_in_a_release_with_its_model(stage: Stage) -> None:
    assert_example_ends_in_a_release(stage, "digits")


def assert_example_ends_in_a_release(stage: Stage, example: str) -> None:
    stage.create_repository(example)
    commit = stage.push(example, EXAMPLES / example)

    view = run_to_its_end(stage, commit)

    assert (view.state, view.outcome) == ("finished", "succeeded"), view.reason
    assert view.metrics["accuracy"] >= PROMISED_ACCURACY[example]
    check = wait_for_check(stage, example, commit)
    assert (check["status"], check["conclusion"]) == ("completed", "success")
    assert "accuracy" in check["output"]["summary"]
    release = published_release(stage, example)
    assert release is not None
    assert release["html_url"] == view.release_url
    spec = (EXAMPLES / example / "cynthus.yaml").read_bytes()
    assert_manifest_is_true_of(stage, example, release, commit, spec)
    assert containers(stage, view.id) == []


def assert_manifest_is_true_of(
    stage: Stage, name: str, release: dict[str, Any], commit: str, spec: bytes
) -> None:
    assets = {asset["name"]: asset_bytes(stage, name, asset) for asset in release["assets"]}
    manifest = json.loads(assets["manifest.json"])
    assert manifest["commit"] == commit
    assert manifest["spec"] == {"path": "cynthus.yaml", "sha256": sha256(spec)}
    assert manifest["image"].partition("@")[2].startswith("sha256:")
    files = [*manifest["files"], *manifest["own_files"]]
    assert len(manifest["files"]) >= 1
    for entry in files:
        content = assets[entry.get("asset") or entry["name"]]
        assert (entry["size_bytes"], entry["sha256"]) == (len(content), sha256(content))
    listed = {entry.get("asset") or entry["name"] for entry in files}
    assert listed | {"manifest.json"} == set(assets)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


SPEC = """\
version: 1
name: {name}
run: |
  {run}
image: {{base: python}}
resources: {{max_duration: 10m}}
outputs:
  - path: outputs
"""


def light_repository(folder: Path, name: str, run: str) -> Path:
    """A repository whose image is the base and its source: quick to build."""
    source = folder / name
    workflow = Path(".github/workflows/cynthus.yml")
    (source / workflow).parent.mkdir(parents=True)
    (source / workflow).write_bytes((EXAMPLES / "digits" / workflow).read_bytes())
    body = "\n  ".join(run.splitlines())
    (source / "cynthus.yaml").write_text(SPEC.format(name=name, run=body), "utf-8")
    return source


def test_a_failing_command_ends_its_check_run_as_failure_with_the_reason(
    stage: Stage, tmp_path: Path
) -> None:
    stage.create_repository("fails")
    commit = stage.push("fails", light_repository(tmp_path, "fails", "echo before\nexit 3"))

    view = run_to_its_end(stage, commit)

    assert (view.outcome, view.cause) == ("failed", "exit")
    assert "3" in (view.reason or "")
    check = wait_for_check(stage, "fails", commit)
    assert check["conclusion"] == "failure"
    assert "before" in check["output"]["text"]
    assert published_release(stage, "fails") is None


def test_a_faulty_spec_is_annotated_on_its_lines(stage: Stage, tmp_path: Path) -> None:
    stage.create_repository("faulty")
    source = light_repository(tmp_path, "faulty", "true")
    text = (source / "cynthus.yaml").read_text("utf-8")
    (source / "cynthus.yaml").write_text(text.replace("name: faulty", "name: Faulty"), "utf-8")

    commit = stage.push("faulty", source)

    view = run_to_its_end(stage, commit)
    assert (view.outcome, view.cause) == ("failed", "spec")
    check = wait_for_check(stage, "faulty", commit)
    token = stage.installation_token()
    notes = stage.github.get(f"repos/{OWNER}/faulty/check-runs/{check['id']}/annotations", token)
    assert [(note["path"], note["start_line"]) for note in notes] == [("cynthus.yaml", 2)]


def test_cancelling_from_the_command_line_ends_run_check_and_container(
    stage: Stage, tmp_path: Path
) -> None:
    stage.create_repository("endless")
    commit = stage.push("endless", light_repository(tmp_path, "endless", "echo up\nsleep 600"))
    run_id = stage.wait_for_run(commit)
    for event in stage.client.follow(run_id):
        if event.kind == "log" and "up" in str(event.body.get("text")):
            break

    stage.client.cancel(run_id)

    view = run_to_its_end(stage, commit)
    assert view.outcome == "cancelled"
    assert wait_for_check(stage, "endless", commit)["conclusion"] == "cancelled"
    assert containers(stage, view.id) == []
