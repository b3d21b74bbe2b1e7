"""What others made comes by digest, commit or hash, wherever this repository names it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
DOCKERFILES = sorted([*ROOT.glob("deploy/Dockerfile"), *ROOT.glob("runner_images/*/Dockerfile")])
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))
SCRIPTS = sorted(
    [ROOT / "Makefile", ROOT / "action/start.sh", *ROOT.glob("scripts/*.sh"), *DOCKERFILES]
)
COMMIT = re.compile(r"[\w./-]+@[0-9a-f]{40}")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
# The wheel of this very checkout into an empty environment: what a user gets, and kept by nobody.
AS_A_USER = {"scripts/smoke_wheel.sh": 2}


def unpinned_uses(workflow: dict[str, Any]) -> list[str]:
    """Return the actions that a workflow names by a tag or a branch."""
    jobs = workflow.get("jobs", {}).values()
    named = [job["uses"] for job in jobs if "uses" in job]
    named += [step["uses"] for job in jobs for step in job.get("steps", ()) if "uses" in step]
    return [name for name in named if name != "./" and not COMMIT.fullmatch(name)]


def unpinned_images(dockerfile: str) -> list[str]:
    """Return the bases of a Dockerfile that have no digest; `${BASE}` is what its ARG says."""
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.MULTILINE))
    stages = {name.lower() for name in re.findall(r"(?im)^FROM .* AS (\S+)$", dockerfile)}
    bases = re.findall(r"^FROM (?:--\S+ )*(\S+)", dockerfile, re.MULTILINE)
    bases += re.findall(r"--from=([^\s,]+)", dockerfile)
    filled = [re.sub(r"\$\{(\w+)\}", lambda name: given.get(name[1], ""), base) for base in bases]
    return [base for base in filled if base.lower() not in stages and not DIGEST.search(base)]


def unpinned_installs(text: str) -> list[str]:
    """Return the `pip install` of a script that takes more than hashes allow, or this checkout."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines() if not line.lstrip().startswith("#")]
    installs = [line for line in lines if re.search(r"\bpip3? install ", line)]
    asked = [line for line in installs if not line.startswith(("grep", "echo"))]
    return [line for line in asked if "--require-hashes" not in line and "--no-deps" not in line]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_takes_actions_by_commit_and_images_by_digest(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert unpinned_uses(workflow) == []
    for job in workflow["jobs"].values():
        services = [service["image"] for service in job.get("services", {}).values()]
        container = job.get("container", [])
        images = [container] if isinstance(container, str) else [c for c in container if c]
        assert [image for image in [*services, *images] if not DIGEST.search(image)] == []
    assert unpinned_installs(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_checkout_leaves_no_token_behind_and_no_script_comes_from_the_network(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert not re.search(r"(curl|wget)[^\n]*\|\s*(ba)?sh", step.get("run", ""))


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
        yield from job.get("steps", ())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_stands_on_digests(path: Path) -> None:
    assert unpinned_images(path.read_text("utf-8")) == []


def test_compose_names_images_by_what_must_be_set() -> None:
    images = [service["image"] for service in COMPOSE["services"].values()]
    assert len(images) == 3
    for image in images:
        # Compose refuses to start with the words behind `:?`, which ask for a digest.
        assert DIGEST.search(image) or re.fullmatch(r"\$\{[A-Z_]+:\?.*@sha256:….*\}", image)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_are_installed_by_hash(path: Path) -> None:
    found = unpinned_installs(path.read_text("utf-8"))
    assert len(found) == AS_A_USER.get(str(path.relative_to(ROOT)), 0), found


def test_every_npm_package_has_its_hash() -> None:
    for path in ROOT.glob("tests/*/package-lock.json"):
        packages = json.loads(path.read_text("utf-8"))["packages"]
        assert [name for name, is_ in packages.items() if name and "integrity" not in is_] == []
        wanted = json.loads(path.with_name("package.json").read_text("utf-8"))["devDependencies"]
        assert [version for version in wanted.values() if not version[0].isdigit()] == []


def test_what_is_pinned_is_renewed() -> None:
    """Each ecosystem, in each folder that holds something of it."""
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text("utf-8"))["updates"]
    told = {
        update["package-ecosystem"]: update.get("directories", [update.get("directory")])
        for update in updates
    }
    assert told["github-actions"] == ["/"]
    for ecosystem, files in {
        "pip": [*ROOT.glob("requirements/*.lock"), *ROOT.glob("runner_images/*/*.lock")],
        "docker": DOCKERFILES,
        "npm": list(ROOT.glob("tests/*/package-lock.json")),
    }.items():
        assert files
        for file in files:
            folder = Path("/") / file.parent.relative_to(ROOT)
            assert any(folder.match(pattern) for pattern in told[ecosystem]), (ecosystem, folder)


def test_every_lock_has_what_it_is_made_from_and_is_made_by_the_script() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    script = (ROOT / "scripts/lock.sh").read_text("utf-8")
    for lock in ROOT.glob("requirements/*.lock"):
        name = lock.stem
        assert name in extras["optional-dependencies"] or lock.with_suffix(".in").exists()
        assert re.search(rf"\b{name}\b", script), name


def test_these_readers_see_what_is_not_pinned() -> None:
    step = {"uses": "actions/checkout@v4"}
    assert unpinned_uses({"jobs": {"a": {"steps": [step]}, "b": {"uses": "a/b/c.yml@main"}}})
    dockerfile = "ARG BASE=debian:12\nFROM ${BASE} AS a\nFROM a\nCOPY --from=nginx:1 / /\n"
    assert unpinned_images(dockerfile) == ["debian:12", "nginx:1"]
    assert unpinned_installs("RUN python -m pip install \\\n  --quiet torch\n") != []
    assert unpinned_installs("uv pip install torch") != []
