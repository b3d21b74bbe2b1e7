"""A push with outputs on Cloud Storage and secrets in Secret Manager, from upload to release."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cynthus.pulling import Puller, Standing, total_bytes
from cynthus.run_outputs import RunOutputs
from demo.__main__ import published_release
from demo.stage import OWNER, Stage, standing
from tests.cloud_fixture import Cloud, a_cloud, make_bucket
from tests.cynthus_run import Home
from tests.flow.conftest import HASTE, judge
from tests.flow.test_push_to_release import asset_bytes, light_repository, run_to_its_end
from tests.gcp_fixture import gcp_simulator
from webhook_server.stores.gcs_blobs import SINGLE_PUT_BYTES

SECRET = "hf_a-secret-of-this-test-alone"
LARGE = SINGLE_PUT_BYTES + 12345
RUN = f"""echo "token: $HF_TOKEN"
mkdir -p outputs
echo model > outputs/model.txt
head -c {LARGE} /dev/zero | tr '\\0' w > outputs/large.bin
: > outputs/empty.txt"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with gcp_simulator(tmp_path / "gcp") as simulator:
        found = a_cloud(simulator, tmp_path)
        with found.open:
            yield found


@pytest.mark.slow
def test_outputs_go_straight_to_the_bucket_and_on_to_the_release(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(cloud.key_file))
    make_bucket(cloud)
    settings = {**HASTE, **cloud.environment}
    with standing(tmp_path / "stage", settings=settings, process=True) as stage:
        repository_id = stage.create_repository("on-gcs")
        cloud.secrets().set(repository_id, "HF_TOKEN", SECRET)
        # The connection breaks in the middle of the large file: the agent has to go on there.
        large = hashlib.sha256(b"outputs/large.bin").hexdigest()
        cloud.sim.fault("upload_cut", {"object": f".*{large}"}, bytes=LARGE // 2)
        source = light_repository(tmp_path, "on-gcs", RUN)
        spec = source / "cynthus.yaml"
        spec.write_text(spec.read_text("utf-8") + "secrets:\n  - HF_TOKEN\n", "utf-8")
        commit = stage.push("on-gcs", source)
        stage.wait_for_image(stage.wait_for_run(commit))

        view = run_to_its_end(stage, commit)

        assert view.outcome == "succeeded", view.reason
        expected = {"model.txt": b"model\n", "large.bin": b"w" * LARGE, "empty.txt": b""}
        assert {o.path for o in view.outputs} == {f"outputs/{name}" for name in expected}
        assert_released(stage, expected)
        assert_release_is_pulled(stage, expected, tmp_path)
        assert_pulled(stage, view.id, expected, tmp_path / "pulled")
        assert stage_blobs(stage) == []
        assert_nothing_shows_the_secret(stage, view.id)
        assert [fault["struck"] for fault in cloud.sim.sim("GET", "/faults")] == [1]
        judge(stage)
    objects = list(cloud.client().list_blobs(cloud.bucket))
    assert sorted(o.size for o in objects) == sorted(len(c) for c in expected.values())
    assert all(o.name.startswith(f"cynthus/{repository_id}/{view.id}/1/") for o in objects)


def assert_released(stage: Stage, expected: dict[str, bytes]) -> None:
    release = published_release(stage, "on-gcs")
    assert release is not None
    assets = {a["name"]: a for a in release["assets"]}
    for name in ("model.txt", "large.bin"):  # GitHub takes no empty asset
        found = next(a for n, a in assets.items() if name in n)
        digest = hashlib.sha256(asset_bytes(stage, "on-gcs", found)).hexdigest()
        assert digest == hashlib.sha256(expected[name]).hexdigest()


def assert_release_is_pulled(stage: Stage, expected: dict[str, bytes], folder: Path) -> None:
    """The command fetches from GitHub alone what the server published there."""
    release = published_release(stage, "on-gcs")
    assert release is not None
    for name in ("tmp", "here"):
        (folder / name).mkdir()
    told = {
        "CYNTHUS_GITHUB_API_URL": f"{stage.github.url}/api",
        "GITHUB_TOKEN": stage.installation_token(),
    }
    home = Home(folder / "here", folder / "tmp", told)
    done = home.run("pull", "release", release["tag_name"], "--repository", f"{OWNER}/on-gcs")
    assert (done.returncode, done.stderr) == (0, "")
    pulled = home.outputs / "outputs"
    assert {path.name: path.read_bytes() for path in pulled.iterdir()} == expected
    own = {"cynthus.yaml", "log.txt", "metrics.json"}
    assert own <= {path.name for path in home.outputs.rglob("*") if path.is_file()}


def assert_pulled(stage: Stage, run_id: str, expected: dict[str, bytes], folder: Path) -> None:
    items = RunOutputs(stage.client, run_id).items()
    Puller(folder).pull(items, Standing(total_bytes=total_bytes(items), total_files=len(items)))
    assert len(items) == len(expected)
    for item in items:
        found = folder / item.path
        assert found.read_bytes() == expected[found.name]


def stage_blobs(stage: Stage) -> list[Path]:
    return [p for p in (stage.server.state / "blobs").rglob("*") if p.is_file()]


def assert_nothing_shows_the_secret(stage: Stage, run_id: str) -> None:
    log = b"".join(stage.client.log(run_id))
    assert b"token: ***" in log
    assert SECRET.encode() not in log
    written = [p for p in stage.server.state.rglob("*") if p.is_file()]
    assert written
    assert not [p for p in written if SECRET.encode() in p.read_bytes()]
    assert stage.server.program is not None
    assert SECRET not in stage.server.program.log.read_text("utf-8", "replace")
