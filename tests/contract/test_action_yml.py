"""`action.yml` is an action to those who read it: GitHub's schema, zizmor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _check(*words: str) -> None:
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [programs / words[0], *words[1:], "action.yml"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_action_yml_is_an_action_by_githubs_schema() -> None:
    _check("check-jsonschema", "--builtin-schema", "vendor.github-actions")


def test_action_yml_has_no_finding_of_zizmor() -> None:
    _check("zizmor", "--offline", "--no-progress")
