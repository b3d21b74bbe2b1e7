"""PyTorch's example to its release, and torchrun with gloo between two ranks.

All need one environment of a gigabyte, which takes most of a minute to make and push: once, by the
first that comes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from demo.__main__ import wait_for_check
from demo.stage import ROOT, Stage, standing
from tests.flow.conftest import HASTE, judge
from tests.flow.test_push_to_release import (
    WORKFLOW,
    assert_example_ends_in_a_release,
    run_to_its_end,
    shares_environment,
)

PYTORCH = ROOT / "examples" / "digits-pytorch"
OF_THE_FIRST = "acme/digits-pytorch/cynthus.env"  # where the Action keeps it, unless told otherwise
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


pytestmark = [pytest.mark.slow, pytest.mark.docker]


def test_a_push_of_the_example_ends_in_a_release_with_its_model(stage: Stage) -> None:
    assert_example_ends_in_a_release(stage, "digits-pytorch")


def test_the_example_that_is_cut_short_goes_on_and_ends_like_a_straight_training(
    stage: Stage, tmp_path: Path
) -> None:
    source = tmp_path / "resume"
    shutil.copytree(ROOT / "examples" / "resume", source)
    shares_environment(source, OF_THE_FIRST)
    stage.create_repository("resume")
    commit = stage.push("resume", source)
    stage.wait_for_image(stage.wait_for_run(commit))

    view = run_to_its_end(stage, commit)

    log = b"".join(stage.client.log(view.id)).decode()
    assert view.outcome == "succeeded", f"{view.reason}\n{log}"
    assert len(view.attempts) == 2
    assert (view.metrics["resumed"], view.metrics["difference"]) == (12, 0)
    resumed = "resumed from step 12; 0 steps lost (checkpoint 1 of attempt 1)"
    assert resumed in view.notices
    summary = wait_for_check(stage, "resume", commit)["output"]["summary"]
    assert "resumed from step 12; 0 steps lost" in summary  # brackets are escaped there


def test_two_ranks_of_torchrun_add_up_over_gloo(stage: Stage, tmp_path: Path) -> None:
    assert_ranks_add_up(stage, tmp_path)


@pytest.mark.long
def test_two_ranks_of_torchrun_add_up_on_two_instances(tmp_path: Path) -> None:
    with standing(tmp_path / "stage", settings=HASTE, cloud=True) as stage:
        assert_ranks_add_up(stage, tmp_path, "cpu: 2, memory: 4GB, places: [us-central1-a], ")
        judge(stage)


def assert_ranks_add_up(stage: Stage, folder: Path, more: str = "") -> None:
    source = folder / "ranks"
    (source / WORKFLOW).parent.mkdir(parents=True)
    shutil.copy(ROOT / "examples/digits" / WORKFLOW, source / WORKFLOW)
    shares_environment(source, OF_THE_FIRST)
    shutil.copy(PYTORCH / "requirements.txt", source)
    (source / "cynthus.yaml").write_text(SPEC.format(more=more), "utf-8")
    (source / "train.py").write_text(PROGRAM, "utf-8")
    stage.create_repository("ranks")
    commit = stage.push("ranks", source)
    stage.wait_for_image(stage.wait_for_run(commit))

    view = run_to_its_end(stage, commit)

    log = b"".join(stage.client.log(view.id)).decode()
    assert view.outcome == "succeeded", f"{view.reason}\n{log}"
    for rank in range(2):
        assert f"[rank {rank}] rank {rank} of 2 total 11.0" in log
