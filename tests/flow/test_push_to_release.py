"""One push becomes a finished run: check run, metrics, release with the trained model."""

from __future__ import annotations

import hashlib
import html
import json
import subprocess
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cynthus.codec import encode
from cynthus.wire import RunView
from demo.__main__ import published_release, wait_for_check
from demo.stage import OWNER, ROOT, Stage
from tests.registry_fixture import Registry

EXAMPLES = ROOT / "examples"
WORKFLOW = Path(".github/workflows/cynthus.yml")
# What each example promises in its README, a little lower: its seeds are fixed, its BLAS is not.
PROMISED_ACCURACY = {"digits": 0.92, "digits-pytorch": 0.90}

JOBS_LIMIT_S = 120.0  # a build of one small package takes seconds; a busy machine gets minutes


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
    manifest = assert_manifest_is_true_of(stage, example, release, commit, spec)
    assert view.environment is not None
    assert manifest["environment"] == encode(view.environment)
    listed = {entry["name"]: entry["sha256"] for entry in manifest["own_files"]}
    assert listed["requirements.lock"] == view.environment.lock_sha256
    assert listed["sbom.cdx.json"] == view.environment.sbom_sha256
    assert containers(stage, view.id) == []


def assert_manifest_is_true_of(
    stage: Stage, name: str, release: dict[str, Any], commit: str, spec: bytes
) -> dict[str, Any]:
    assets = {asset["name"]: asset_bytes(stage, name, asset) for asset in release["assets"]}
    manifest: dict[str, Any] = json.loads(assets["manifest.json"])
    assert manifest["commit"] == commit
    assert manifest["spec"] == {"path": "cynthus.yaml", "sha256": sha256(spec)}
    assert manifest["image"].partition("@")[2].startswith("sha256:")
    files = [*manifest["files"], *manifest["own_files"]]
    assert len(manifest["files"]) >= 1
    for entry in files:
        content = assets[entry.get("asset") or entry["name"]]
        assert (entry["size_bytes"], entry["sha256"]) == (len(content), sha256(content))
    listed = {entry.get("asset") or entry["name"] for entry in files}
    assert listed | {"manifest.json", "provenance.intoto.jsonl"} == set(assets)
    return manifest


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


def shares_environment(source: Path, place: str = "acme/environments") -> None:
    """Have a repository keep its environment where others do: whoever comes second finds it there.

    For what is about something else; what is to be said of one's own is said by `digits`, `twins`.
    """
    workflow = source / WORKFLOW
    place = f"format('{{0}}/{place}', vars.CYNTHUS_REGISTRY)"
    more = f"environments: ${{{{ vars.CYNTHUS_REGISTRY && {place} }}}}\n          server: ${{{{"
    text = workflow.read_text("utf-8")
    workflow.write_text(text.replace("server: ${{", more), "utf-8")


def light_repository(folder: Path, name: str, run: str) -> Path:
    """A repository whose image is the base and its source: quick to build."""
    source = folder / name
    (source / WORKFLOW).parent.mkdir(parents=True)
    (source / WORKFLOW).write_bytes((EXAMPLES / "digits" / WORKFLOW).read_bytes())
    shares_environment(source)
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


# ── one environment for all who wish the same ───────────────────────────────────────────────────

OLD = datetime(2020, 2, 2, tzinfo=UTC)  # far older than `keep-images`
TWINS = {"kept": "python train.py > outputs/told.txt", "failed": "exit 3"}
TWIN = """\
version: 1
name: {name}
run: {run}
image: {{python: "3.11", requirements: requirements.txt}}
triggers: {{push: {{branches: [main, again]}}}}
resources: {{max_duration: 10m}}
outputs:
  - path: outputs
"""


@pytest.mark.docker
def test_what_was_built_once_is_built_for_all_and_stays_while_it_is_used(
    stage: Stage, tmp_path: Path
) -> None:
    """Two jobs at once, the same commit again, the next commit; then what nobody uses is gone."""
    if stage.registry is None:
        pytest.skip(f"images need an engine: {stage.engine.why_not}")
    registry = Registry(stage.registry.address)
    source = twins(tmp_path / "twins")
    repository_id = stage.create_repository("twins")
    first = stage.push("twins", source, when=OLD)
    told = job_summaries(stage, "twins", first, count=2)
    assert sum("built: there was none with this key" in text for text in told) == 1, told
    assert sum("environment reused" in text for text in told) == 1, told
    assert "no build lease" not in stage.runner.log.read_text("utf-8")
    views = {view.name: view for view in ended_runs(stage, first, count=2)}
    assert {name: view.outcome for name, view in views.items()} == {
        "kept": "succeeded",
        "failed": "failed",
    }
    kept = views["kept"]
    assert kept.environment is not None
    assert_the_server_knows(stage, repository_id, kept)

    stage.git(stage.folder / "work" / "twins", "push", "--quiet", "origin", "HEAD:again")
    told = job_summaries(stage, "twins", first, count=4)
    assert sum("this commit was built with it before" in text for text in told) == 2, told

    (source / "train.py").write_text("print('another source')\n", "utf-8")
    second = stage.push("twins", source)
    told = job_summaries(stage, "twins", second, count=2)
    assert all("its packages are those of an earlier build" in text for text in told), told
    assert all("4 layers were there" in text for text in told), told
    digest, manifest = registry.manifest("acme/twins/kept", second)
    earlier, below = registry.manifest("acme/twins/kept", first)  # a release stands on it
    assert (kept.image or "").endswith(f"/kept@{earlier}")
    assert digest != earlier
    assert manifest["layers"][:-1] == below["layers"][:-1]
    assert manifest["layers"][-1]["size"] < 4096  # bytes: three small files
    assert registry.manifest("acme/twins/failed", second)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        registry.manifest("acme/twins/failed", first)
    assert registry.manifest("acme/twins/cynthus.env", kept.environment.key)


def twins(source: Path) -> Path:
    """A repository whose workflow has two jobs, with a spec each and the same packages."""
    (source / WORKFLOW).parent.mkdir(parents=True)
    one = (EXAMPLES / "digits" / WORKFLOW).read_text("utf-8")
    both = "strategy: {matrix: {spec: [kept, failed]}}\n    runs-on:"
    spec = "with:\n          spec: ${{ matrix.spec }}.yaml\n          server:"
    text = one.replace("runs-on:", both).replace("with:\n          server:", spec)
    (source / WORKFLOW).write_text(text, "utf-8")
    for name, run in TWINS.items():
        (source / f"{name}.yaml").write_text(TWIN.format(name=name, run=run), "utf-8")
    (source / "requirements.txt").write_text("joblib==1.6.0\n", "utf-8")
    (source / "train.py").write_text("import joblib\nprint(joblib.__version__)\n", "utf-8")
    return source


def job_summaries(stage: Stage, name: str, commit: str, *, count: int) -> list[str]:
    """Return what the jobs of a commit wrote as step summaries, once all have ended well."""
    tick = threading.Event()
    jobs: list[dict[str, Any]] = []
    path = f"repos/{OWNER}/{name}/commits/{commit}/check-runs?filter=all"
    token = stage.installation_token()
    for _ in range(int(JOBS_LIMIT_S / 0.2)):
        found = stage.github.get(path, token)["check_runs"]
        jobs = [job for job in found if job["app"]["id"] != stage.app_id]
        if sum(job["status"] == "completed" for job in jobs) == count:
            break
        tick.wait(0.2)
    ended = [job["conclusion"] for job in jobs]
    assert ended == ["success"] * count, stage.runner.tail(60)
    return [html.unescape(job["output"]["summary"]) for job in jobs]


def ended_runs(stage: Stage, commit: str, *, count: int) -> list[RunView]:
    rows = [row for row in stage.client.list(limit=20) if row["commit_sha"] == commit]
    assert len(rows) == count
    for row in rows:
        for event in stage.client.follow(str(row["id"])):
            if event.kind == "state" and event.body.get("state") == "finished":
                break
    return [stage.client.get(str(row["id"])) for row in rows]


def assert_the_server_knows(stage: Stage, repository_id: int, run: RunView) -> None:
    """The lock comes back for the commit, and what its release stands on is in use."""
    assert run.environment is not None
    query = f"commit={run.commit_sha}&spec=kept.yaml&repository_id={repository_id}"
    about = run.environment  # without a registry for the base, it is not the one of that name
    assert about.base_digest or about.base.startswith("cynthus/base:offline-"), about.base
    lock = api(stage, f"locks?{query}")
    assert lock["key"] == run.environment.key
    assert "joblib==1.6.0" in lock["lock"]
    assert sha256(lock["lock"].encode()) == run.environment.lock_sha256
    in_use = api(stage, f"images?repository_id={repository_id}")
    assert in_use["digests"] == [(run.image or "").partition("@")[2]]
    assert run.environment.key in in_use["keys"]


def api(stage: Stage, path: str) -> Any:
    request = urllib.request.Request(
        f"{stage.server.url}/api/v1/{path}",
        headers={"Authorization": f"Bearer {stage.server.api_token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
