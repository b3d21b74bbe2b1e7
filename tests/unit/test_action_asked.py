"""What a dispatch asks for, and what a stranger's commit is built without."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from action import asked, forks, inputs, refusals
from action.asked import Asked
from action.inputs import Inputs
from action.resolving import indexes
from cynthus.errors import UserError
from cynthus.spec import ImageSpec
from tests.builders import a_spec

COMMIT = "b" * 40
PAYLOAD: dict[str, Any] = {
    "run_id": "arun00000001",
    "commit_sha": COMMIT,
    "spec_path": "cynthus.yaml",
    "trigger": "comment/77/0",
    "pull_request": 3,
    "fork": False,
}


def read(event: str = "repository_dispatch", action: str = "cynthus", **told: Any) -> Any:
    faults: list[str] = []
    found = asked.read(event, {"action": action, "client_payload": PAYLOAD | told}, faults)
    return found, faults


def test_a_dispatch_says_what_to_build() -> None:
    found, faults = read()
    assert faults == []
    assert found == Asked(**PAYLOAD)
    assert read(pull_request=None)[0].pull_request is None


@pytest.mark.parametrize(
    "told", [{"event": "push"}, {"event": "workflow_dispatch"}, {"action": "deploy"}]
)
def test_other_events_ask_for_nothing(told: dict[str, str]) -> None:
    assert read(**told) == (None, [])


@pytest.mark.case("O15")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run_id", "A"),
        ("run_id", None),
        ("commit_sha", "b" * 39),
        ("commit_sha", "b" * 40 + "\n"),
        ("commit_sha", "--upload-pack=evil"),
        ("spec_path", "/etc/passwd"),
        ("spec_path", "../cynthus.yaml"),
        ("spec_path", "-x"),
        ("spec_path", "a\nb"),
        ("spec_path", ""),
        ("trigger", "comment/77/0\n::set-output"),
        ("trigger", "a/b/c/d/e"),
        ("pull_request", "3"),
        ("pull_request", True),
        ("fork", "false"),
        ("fork", None),
    ],
)
def test_a_dispatch_that_the_server_did_not_send_is_told(name: str, value: object) -> None:
    found, [fault] = read(**{name: value})
    assert found is None
    assert name in fault


def test_a_dispatch_without_any_payload_is_told() -> None:
    faults: list[str] = []
    assert asked.read("repository_dispatch", {"action": "cynthus"}, faults) is None
    assert len(faults) == 1


# ── which step builds it ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "GITHUB_WORKSPACE": str(tmp_path),
        "GITHUB_REPOSITORY": "acme/train",
        "GITHUB_REPOSITORY_ID": "7",
        "GITHUB_SHA": "a" * 40,
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_EVENT_NAME": "repository_dispatch",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_RUN_ID": "99",
        "INPUT_SERVER": "https://cynthus.example.org",
        "INPUT_BUILD_SECRETS": "index=a-secret-value",
        "HOME": str(tmp_path),
    }


def given(environ: dict[str, str], more: dict[str, str] | None = None, **told: Any) -> Inputs:
    event = {"action": "cynthus", "client_payload": PAYLOAD | told}
    Path(environ["GITHUB_EVENT_PATH"]).write_text(json.dumps(event))
    return inputs.read({**environ, **(more or {})})


def test_the_commit_is_the_one_that_was_asked_for(environ: dict[str, str]) -> None:
    job = given(environ).job
    assert job.commit_sha == COMMIT
    assert refusals.unsafe_event(job, dry_run=False) is None
    assert refusals.other_commit(job, COMMIT) is None
    for head in ("a" * 40, None):
        assert "client_payload.commit_sha" in (refusals.other_commit(job, head) or "")


@pytest.mark.parametrize(
    ("step", "path", "builds"),
    [
        ({}, "cynthus.yaml", True),
        ({}, "evaluate.yaml", True),
        ({}, "training/cynthus.yaml", False),
        ({"INPUT_WORKING_DIRECTORY": "training"}, "training/cynthus.yaml", True),
        ({"INPUT_WORKING_DIRECTORY": "training"}, "cynthus.yaml", False),
        ({"INPUT_SPEC": "evaluate.yaml"}, "evaluate.yaml", True),
        ({"INPUT_SPEC": "evaluate.yaml"}, "cynthus.yaml", False),
    ],
)
def test_a_step_builds_the_spec_that_is_its_own(
    environ: dict[str, str], step: dict[str, str], path: str, builds: bool
) -> None:
    reason = refusals.another_spec(given(environ, step, spec_path=path))
    assert (reason is None) is builds


# ── a stranger's commit ─────────────────────────────────────────────────────────────────────────


def test_a_fork_s_images_lie_apart_and_its_build_has_no_secrets(environ: dict[str, str]) -> None:
    own = given(environ)
    assert own.build_secrets
    apart = forks.kept_apart(own)
    assert apart.registry == "ghcr.io/acme/train/forks"
    assert apart.environments == "ghcr.io/acme/train/forks/cynthus.env"
    assert apart.build_secrets == ()
    assert apart.machine.cache_dir != own.machine.cache_dir
    assert not apart.machine.takes_bundles


def test_docker_hub_has_no_room_for_forks(environ: dict[str, str]) -> None:
    own = given(environ, {"INPUT_REGISTRY": "docker.io"})
    with pytest.raises(UserError, match="Docker Hub"):
        forks.kept_apart(own)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (ImageSpec(dockerfile="Dockerfile"), "image/dockerfile"),
        (ImageSpec(base="ghcr.io/mallory/evil:1"), "image/base"),
        (ImageSpec(base="pytorch"), None),
        (ImageSpec(), None),
    ],
)
def test_nothing_that_a_fork_chose_runs_on_the_runner(
    environ: dict[str, str], image: ImageSpec, told: str | None
) -> None:
    reason = forks.refusal(a_spec(image=image), given(environ))
    assert (told is None) == (reason is None)
    assert (told or "") in (reason or "")


def test_a_base_that_the_workflow_names_is_the_workflow_s_own(environ: dict[str, str]) -> None:
    own = given(environ, {"INPUT_BASE_IMAGE": "ghcr.io/acme/base:1"})
    assert forks.refusal(a_spec(image=ImageSpec(base="ghcr.io/mallory/evil:1")), own) is None


def test_a_fork_s_packages_are_asked_for_as_nobody(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://ada:pa55word@index.test/simple\n")
    environ = {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(config),
        "PIP_INDEX_URL": "https://mirror.test/simple",
        "PIP_EXTRA_INDEX_URL": "https://mirror.test/x https://tok3n-value@private.test/simple",
        "UV_INDEX": "corp=https://ada:pa55word@private.test/simple",
        "UV_INDEX_CORP_PASSWORD": "pa55word",
        "PATH": "/usr/bin",
    }
    forks.forget_logins(environ)
    assert environ["PIP_INDEX_URL"] == "https://mirror.test/simple"
    assert environ["NETRC"] == environ["PIP_CONFIG_FILE"] == os.devnull
    assert environ["PIP_KEYRING_PROVIDER"] == environ["UV_KEYRING_PROVIDER"] == "disabled"
    assert not {"PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_CORP_PASSWORD"} & set(environ)
    assert indexes.secrets(environ) == ()


def test_a_mirror_s_file_stays(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://mirror.test/simple\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(config)}
    forks.forget_logins(environ)
    assert environ["PIP_CONFIG_FILE"] == str(config)
