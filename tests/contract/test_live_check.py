"""The live check against the simulator: it finds what is wrong, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.gcp_live.steps import STEPS
from scripts.gcp_live_check import main
from tests.cloud_fixture import Cloud, a_cloud
from tests.gcp_fixture import gcp_simulator

PAGE = Path(__file__).parents[2] / "docs" / "gcp-live-check.md"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with gcp_simulator(tmp_path_factory.mktemp("gcp")) as sim:
        times = ("provisioning_s", "staging_s", "stopping_s", "grace_s", "preempt_s")
        times += ("maintenance_s",)
        sim.post("/settings", dict.fromkeys(times, 0))
        yield a_cloud(sim, tmp_path_factory.mktemp("cloud"))


@pytest.fixture
def check(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(cloud.key_file))
    url = cloud.sim.url
    environment = {
        **cloud.environment,
        "CYNTHUS_STATE_DIR": str(tmp_path),
        "CYNTHUS_GCP_COMPUTE_URL": url,
        "CYNTHUS_GCP_BILLING_URL": url,
        "CYNTHUS_GCP_AGENT_IMAGE": f"us-docker.pkg.dev/p/agent/agent@sha256:{'0' * 64}",
        "CYNTHUS_GCP_CERTS_URL": f"{url}/oauth2/v3/certs",
        "CYNTHUS_GCP_SERVICE_ACCOUNT": f"runner@{cloud.sim.project}.iam.gserviceaccount.com",
    }

    def run(*words: str, wait=lambda _: None, **settings: str) -> int:
        return main(words, {**environment, **settings}, wait)

    yield run
    cloud.sim.sim("DELETE", "/faults")
    assert left(cloud) == []


def left(cloud: Cloud) -> list[str]:
    """Return what a check has left, anywhere."""
    machines = [one["name"] for one in cloud.sim.sim("GET", "/instances")]
    buckets = [one.name for one in cloud.client().list_buckets()]
    held = cloud.secrets()._client.list_secrets(parent=f"projects/{cloud.sim.project}")
    return machines + buckets + [one.name for one in held]


def test_every_step_is_right_on_the_simulator(check, capsys: pytest.CaptureFixture[str]) -> None:
    names = [step.name for step in STEPS if step.name != "gpu"]  # nothing boots here
    code = check("--only", *names)
    told = capsys.readouterr().out
    assert code == 0, told
    assert [line.split()[1] for line in told.splitlines() if line.startswith("ok ")] == names


def test_a_service_that_differs_is_told_and_everything_removed(
    check, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.sim.fault("error", {"verb": "compute.instances.aggregatedList"}, code=500, times=1)
    assert check("--only", "create", "list") == 1
    told = capsys.readouterr().out
    assert "WRONG  list" in told
    assert "ok     create" in told


def test_nothing_is_ordered_above_the_cap(check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--only", "create", "--max-usd", "0") == 1
    assert "more than --max-usd 0" in capsys.readouterr().out


def test_a_killed_check_can_be_removed_by_its_name(
    check, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.sim.fault("error", {"verb": "compute.instances.delete"}, code=403, times=-1)
    assert check("--only", "create") == 1
    told = capsys.readouterr()
    plane = told.out.splitlines()[0].rpartition(" ")[2]
    assert f"try again: --clean {plane}" in told.err
    assert len(left(cloud)) == 1
    cloud.sim.sim("DELETE", "/faults")
    assert check("--clean", plane) == 0


def test_an_interrupted_check_removes_what_it_made(
    check, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            assert len(left(cloud)) == 1
            raise KeyboardInterrupt
        cloud.sim.post("/clock", advance_s=seconds)

    cloud.sim.post("/settings", provisioning_s=5)
    try:
        assert check("--only", "create", wait=wait) == 1
    finally:
        cloud.sim.post("/settings", provisioning_s=0)
    assert "interrupted: removing what was made" in capsys.readouterr().out


def test_without_a_project_it_does_not_begin(check, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(CYNTHUS_GCP_SERVICE_ACCOUNT="") == 2
    assert capsys.readouterr().err.startswith("CYNTHUS_GCP_SERVICE_ACCOUNT: should name")


def test_a_dry_run_asks_nothing(check, cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    before = cloud.sim.exchanges.read_text()
    assert check("--dry-run", "--gpu", "--preempt") == 0
    told = capsys.readouterr().out
    assert all(step.name in told for step in STEPS)
    assert cloud.sim.exchanges.read_text() == before


def test_the_page_tells_every_step() -> None:
    text = PAGE.read_text("utf-8")
    assert [step.name for step in STEPS if f"| `{step.name}` |" not in text] == []


def test_exchanges_are_understood_by_googles_own_description(cloud: Cloud) -> None:
    from tests.contract.google_description import judge_exchanges

    with cloud.sim.exchanges.open() as file:
        faults = judge_exchanges(line for line in file if not json.loads(line).get("fault"))
    assert faults == []
