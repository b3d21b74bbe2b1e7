"""A stage for the flow tests: the same that the demo stands on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo.stage import Stage, standing
from tests.contract.github_description import judge_deliveries, judge_exchanges

# GitHub asks for a second between writes; the simulator enforces its limits, not its advice, and a
# release of seven files would be seven seconds of every test here.
HASTE = {"CYNTHUS_GITHUB_WRITE_SPACING": "0.05"}
GANG = {"CYNTHUS_LOCAL_SLOTS": "2"}  # room for a gang on this machine


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with standing(tmp_path_factory.mktemp("stage"), settings={**HASTE, **GANG}) as stage:
        if stage.engine.client is None and os.environ.get("CI"):
            pytest.fail(f"continuous integration has a Docker engine: {stage.engine.why_not}")
        yield stage
        judge(stage)


def judge(stage: Stage) -> None:
    """All that was said between us and GitHub is what GitHub describes."""
    problems = judge_exchanges(stage.exchanges.read_text("utf-8").splitlines())
    problems += judge_deliveries(stage.github.control("GET", "deliveries"))
    assert problems == []
