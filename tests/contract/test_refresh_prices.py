"""`cynthus gcp refresh-prices`: what it keeps, and with what it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gcp_fixture import GcpSimulator, gcp_simulator
from webhook_server.providers.gcp_prices import read

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcpSimulator]:
    with gcp_simulator(tmp_path_factory.mktemp("gcp")) as simulator:
        yield simulator


def refresh(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cynthus", "gcp", "refresh-prices"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lending(sim: GcpSimulator) -> dict[str, str]:
    return {
        "CYNTHUS_GCP_PROJECT": sim.project,
        "CYNTHUS_GCP_BILLING_URL": sim.url,
        "CYNTHUS_GCP_SERVICE_ACCOUNT": f"runner@{sim.project}.iam.gserviceaccount.com",
    }


def test_prices_are_kept_until_google_tells_others(sim: GcpSimulator, tmp_path: Path) -> None:
    kept = tmp_path / "cynthus-state" / "gcp_prices.csv"
    done = refresh(tmp_path, **lending(sim))
    assert (done.returncode, done.stderr) == (0, "")
    table = read(kept.read_text("utf-8"))
    assert done.stdout.startswith(f"{len(table.rates)} prices ")
    assert "Cloud Billing Catalog" in table.source

    sim.fault("error", {"verb": "cloudbilling.*"}, code=503, times=-1)
    try:
        failed = refresh(tmp_path, **lending(sim))
    finally:
        sim.sim("DELETE", "/faults")
    assert failed.returncode == 3
    assert "Google Cloud, prices" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert read(kept.read_text("utf-8")) == table


def test_a_server_without_google_cloud_is_told_what_to_set(tmp_path: Path) -> None:
    done = refresh(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("CYNTHUS_GCP_PROJECT: should name")
