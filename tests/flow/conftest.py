"""A stage for the flow tests: the same that the demo stands on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo.stage import Stage, standing


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with standing(tmp_path_factory.mktemp("stage")) as stage:
        if stage.engine.client is None and os.environ.get("CI"):
            pytest.fail(f"continuous integration has a Docker engine: {stage.engine.why_not}")
        yield stage
