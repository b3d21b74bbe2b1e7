"""What this machine offers of its GPUs, as the driver's own program tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynthus.spec import GpuNeed, Resources
from webhook_server.providers.local import Local, Machine
from webhook_server.providers.provider import NothingFits

# nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
TOLD = "NVIDIA H200, 570.133.20\nNVIDIA H200, 570.133.20"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nvidia-smi").write_text(f"#!/bin/sh\necho '{TOLD}'\n")
    (programs / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return Local(
        Machine(
            state_dir=tmp_path / "state",
            server_url="http://127.0.0.1:1",
            control_plane="t",
            slots=2,
        )
    )


def test_a_gpu_comes_with_its_driver(local: Local) -> None:
    [offer] = local.offers(Resources(gpu=(GpuNeed("h200", 2),)))
    assert (offer.gpu_count, offer.gpu_type, offer.driver) == (2, "h200", "570.133.20")


def test_without_a_gpu_there_is_no_driver_to_be_told(local: Local, tmp_path: Path) -> None:
    assert local.offers(Resources())[0].driver == ""
    (tmp_path / "bin" / "nvidia-smi").unlink()
    bare = Local(local._machine)
    with pytest.raises(NothingFits, match="no GPU"):
        bare.offers(Resources(gpu=(GpuNeed("h200", 1),)))
