"""A gang of two runs PyTorch's own launcher: torchrun, with gloo between the ranks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from demo.stage import ROOT, standing
from tests.flow.conftest import HASTE, judge
from tests.flow.test_push_to_release import run_to_its_end

PYTORCH = ROOT / "examples" / "digits-pytorch"  # its environment is built by other tests anyway
SPEC = """\
version: 1
name: ranks
run: >-
  torchrun --nnodes $NNODES --node-rank $NODE_RANK --nproc-per-node 1
  --master-addr $MASTER_ADDR --master-port $MASTER_PORT train.py
image: {{python: "3.11", requirements: requirements.txt}}
resources: {{nodes: 2, {more}max_duration: 10m}}
env: {{OMP_NUM_THREADS: "1"}}
retry: {{attempts: 1}}
"""
PROGRAM = """
import torch
import torch.distributed as ranks

ranks.init_process_group("gloo")
total = torch.tensor([10.0 ** ranks.get_rank()])
ranks.all_reduce(total)
print("rank", ranks.get_rank(), "of", ranks.get_world_size(), "total", total.item())
ranks.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize(
    "cloud", [False, pytest.param(True, marks=pytest.mark.long)], ids=["here", "on-instances"]
)
def test_two_ranks_of_torchrun_add_up_over_gloo(tmp_path: Path, cloud: bool) -> None:
    source = tmp_path / "ranks"
    workflow = Path(".github/workflows/cynthus.yml")
    (source / workflow).parent.mkdir(parents=True)
    shutil.copy(ROOT / "examples/digits" / workflow, source / workflow)
    shutil.copy(PYTORCH / "requirements.txt", source)
    more = "cpu: 2, memory: 4GB, places: [us-central1-a], " if cloud else ""
    (source / "cynthus.yaml").write_text(SPEC.format(more=more), "utf-8")
    (source / "train.py").write_text(PROGRAM, "utf-8")
    settings = {**HASTE, "CYNTHUS_LOCAL_SLOTS": "2"}
    with standing(tmp_path / "stage", settings=settings, cloud=cloud) as stage:
        stage.create_repository("ranks")
        commit = stage.push("ranks", source)
        stage.wait_for_image(stage.wait_for_run(commit))

        view = run_to_its_end(stage, commit)

        log = b"".join(stage.client.log(view.id)).decode()
        assert view.outcome == "succeeded", f"{view.reason}\n{log}"
        for rank in range(2):
            assert f"[rank {rank}] rank {rank} of 2 total 11.0" in log
        judge(stage)
