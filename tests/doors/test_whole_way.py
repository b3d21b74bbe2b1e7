"""Doors, loops, local provider and agent together, through the command line alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cynthus.client import Client
from cynthus.wire import RunRequest
from tests.doors.test_server_process import ROOT, server

SPEC = """\
version: 1
name: digits
run: |
  echo hello $CYNTHUS_RUN_ID
  echo '::metric name=loss,step=1::0.5'
  mkdir -p outputs && echo weights > outputs/model.txt
  exit CODE
outputs:
  - path: outputs
"""


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    bundle = tmp_path / "bundles" / "one"
    (bundle / "workspace").mkdir(parents=True)
    (bundle / "bundle.json").write_text(json.dumps({"bin": "/usr/bin", "workspace": "workspace"}))
    with server(tmp_path, CYNTHUS_BUNDLES_DIR=str(tmp_path / "bundles")) as (url, _):
        yield url, bundle


def submit(url: str, bundle: Path, *, code: int, trigger: str) -> str:
    request = RunRequest(
        repository_id=0,
        repository="my folder",
        commit_sha="c" * 40,
        ref="refs/heads/main",
        event="local",
        trigger=trigger,
        spec_path="cynthus.yaml",
        spec_text=SPEC.replace("CODE", str(code)),
        image=f"file://{bundle}",
    )
    return Client(url).submit(request).run_id


def cynthus(url: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cynthus", *words],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CYNTHUS_SERVER": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_run_is_followed_to_its_end_and_its_outputs_pulled(
    whole: tuple[str, Path], tmp_path: Path
) -> None:
    url, bundle = whole
    run_id = submit(url, bundle, code=0, trigger="local/1")
    followed = cynthus(url, "logs", "-f", run_id, cwd=tmp_path)
    assert followed.returncode == 0, followed.stderr
    assert f"hello {run_id}" in followed.stdout
    assert cynthus(url, "pull", run_id, cwd=tmp_path).returncode == 0
    pulled = tmp_path / "cynthus-outputs" / run_id / "outputs" / "model.txt"
    assert pulled.read_text() == "weights\n"
    view = json.loads(cynthus(url, "status", "--json", run_id, cwd=tmp_path).stdout)
    assert (view["outcome"], view["metrics"]) == ("succeeded", {"loss": 0.5})
    assert "succeeded" in cynthus(url, "status", cwd=tmp_path).stdout


def test_a_run_that_fails_ends_the_command_with_1(whole: tuple[str, Path], tmp_path: Path) -> None:
    url, bundle = whole
    run_id = submit(url, bundle, code=3, trigger="local/2")
    followed = cynthus(url, "logs", "-f", run_id, cwd=tmp_path)
    assert followed.returncode == 1
    assert "failed" in followed.stderr


@pytest.mark.parametrize("words", [("status", "nothing"), ("logs", "nothing"), ("cancel", "no")])
def test_a_run_that_is_not_there_is_the_users_input(
    whole: tuple[str, Path], tmp_path: Path, words: tuple[str, ...]
) -> None:
    told = cynthus(whole[0], *words, cwd=tmp_path)
    assert told.returncode == 2
    assert "not known" in told.stderr
