"""The promises the whole house makes about itself."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("action", "bench", "cynthus", "demo", "runner_images", "simulators", "webhook_server")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
COMMIT = re.compile(r"[^@]+@[0-9a-f]{40}")


def test_a_file_says_its_one_job_in_its_first_line() -> None:
    said = {path: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for path in MODULES}
    assert [path for path, text in said.items() if not text] == []
    assert [path for path, text in said.items() if text and len(text.splitlines()[0]) > 100] == []


def test_no_file_is_named_for_having_no_job() -> None:
    jobless = {"utils", "helpers", "common", "core", "manager", "misc"}
    assert [path for path in MODULES if path.stem in jobless] == []


def test_the_version_is_the_newest_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    newest = re.search(
        r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert newest is not None
    assert newest[1] == version


LOCKS = sorted([*ROOT.glob("requirements/*.lock"), *ROOT.glob("runner_images/*/*.lock")])


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_lock_has_a_hash_for_everything_and_names_no_index(path: Path) -> None:
    text = path.read_text("utf-8")
    pins = re.findall(r"^[a-z0-9][^\s=]*==", text, re.MULTILINE)
    entries = re.split(r"^(?=[a-z0-9][^\s=]*==)", text, flags=re.MULTILINE)[1:]
    assert pins
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text.replace("--no-emit-find-links", "")


def test_no_npm_lock_names_a_registry() -> None:
    locks = [p for p in ROOT.rglob("package-lock.json") if "node_modules" not in p.parts]
    assert [path for path in locks if '"resolved"' in path.read_text("utf-8")] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_and_starts_without_permissions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(COMMIT.fullmatch(word) or word == "./" for word in uses)


def test_the_last_gate_of_ci_waits_for_every_job() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    assert set(jobs["all-green"]["needs"]) == set(jobs) - {"all-green"}


def test_continuous_integration_runs_the_two_targets_and_nothing_clever() -> None:
    lines = (ROOT / ".ci/run").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("make")] == ["make check", "make test"]
