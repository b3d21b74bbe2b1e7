"""The Action's inputs: defaults, and bad ones named with what to do."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from action import inputs
from cynthus.errors import UserError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "event.json").write_text(json.dumps({"repository": {"default_branch": "trunk"}}))
    return {
        "GITHUB_WORKSPACE": str(tmp_path),
        "GITHUB_REPOSITORY": "Acme/Train",
        "GITHUB_REPOSITORY_ID": "7",
        "GITHUB_SHA": "a" * 40,
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_RUN_ID": "99",
        "GITHUB_ACTOR": "mira",
        "INPUT_SERVER": "https://cynthus.example.org",
        "HOME": "/home/runner",
    }


def test_defaults_are_what_action_yml_says(environ: dict[str, str]) -> None:
    found = inputs.read(environ)
    assert found.spec_path == "cynthus.yaml"
    assert found.audience == "cynthus"
    assert found.wait is False
    assert found.wait_timeout == timedelta(hours=6)
    assert found.login is None
    assert found.job.default_branch == "trunk"
    assert found.job.run_url == "https://github.com/Acme/Train/actions/runs/99"


def test_action_yml_hands_over_every_input_by_the_environment() -> None:
    import yaml

    root = Path(__file__).resolve().parents[2]
    action = yaml.safe_load((root / "action.yml").read_text())
    [step] = action["runs"]["steps"]
    assert step["env"] == {
        "INPUT_" + name.upper().replace("-", "_"): f"${{{{ inputs.{name} }}}}"
        for name in action["inputs"]
    }
    assert "${{" not in step["run"]
    for name, output in action["outputs"].items():
        assert output["value"] == f"${{{{ steps.{step['id']}.outputs.{name} }}}}"


@pytest.mark.parametrize(
    ("given", "registry"),
    [
        ("", ""),
        ("ghcr.io", "ghcr.io/acme/train"),
        ("ghcr.io/acme/images", "ghcr.io/acme/images"),
        ("127.0.0.1:5055", "127.0.0.1:5055/acme/train"),
        ("https://registry.example.org/team/", "registry.example.org/team"),
        ("europe-docker.pkg.dev/p/r", "europe-docker.pkg.dev/p/r"),
        ("[::1]:5000/x", "[::1]:5000/x"),
        ("docker.io", "docker.io/acme"),
        ("docker.io/team", "docker.io/team"),
    ],
)
def test_images_go_below_the_registry(environ: dict[str, str], given: str, registry: str) -> None:
    expected = registry or "ghcr.io/acme/train"
    assert inputs.read({**environ, "INPUT_REGISTRY": given}).registry == expected


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", "ghcr.io/acme/train/cynthus.env"),
        ("ghcr.io/acme/environments", "ghcr.io/acme/environments"),
        ("https://registry.example.org/e/", "registry.example.org/e"),
    ],
)
def test_environments_are_kept_beside_the_images_or_where_it_is_said(
    environ: dict[str, str], given: str, kept: str
) -> None:
    assert inputs.read({**environ, "INPUT_ENVIRONMENTS": given}).environments == kept


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("INPUT_SERVER", "", "with/server: should be the Cynthus server's address"),
        ("INPUT_SERVER", "http://cynthus.example.org", "an https address"),
        ("INPUT_SERVER", "https://u:p4ss@cynthus.example.org", "without user"),
        ("INPUT_SERVER", "ftp://cynthus.example.org", "an https address"),
        ("INPUT_REGISTRY", "ghcr.io/Acme", "in lower case"),
        ("INPUT_REGISTRY", "ghcr.io/a b", "with/registry"),
        ("INPUT_REGISTRY", "--output=x", "with/registry"),
        ("INPUT_REGISTRY", "docker.io/acme/train", "Write `registry: docker.io/acme`"),
        ("INPUT_ENVIRONMENTS", "ghcr.io", "with/environments: should be a registry's host and"),
        ("INPUT_ENVIRONMENTS", "ghcr.io/Acme/env", "in lower case"),
        ("INPUT_BUILD_SECRETS", "index=ok\nno-value", "with/build-secrets: line 2 should be"),
        ("INPUT_BUILD_SECRETS", "index=", "line 1 should be `id=VALUE`"),
        ("INPUT_BUILD_SECRETS", "index=p4ss\nindex=p4ss", "line 2 should be"),
        ("INPUT_BUILD_SECRETS", "id=a,src=/etc/shadow=p4ss\nx,src=/=p4ss", "line 2 should be"),
        ("INPUT_WAIT", "ja", "with/wait: should be true or false, found `ja`"),
        ("INPUT_DRY_RUN", "1", "with/dry-run: should be true or false"),
        ("INPUT_WAIT_TIMEOUT", "5", "with/wait-timeout: should be a duration"),
        ("INPUT_WAIT_TIMEOUT", "0s", "with/wait-timeout"),
        ("INPUT_WAIT_TIMEOUT", "6d", "up to 5d"),
        ("INPUT_SPEC", "/etc/passwd", "with/spec: should be a file of the repository"),
        ("INPUT_SPEC", "a/../../b", "with/spec"),
        ("INPUT_WORKING_DIRECTORY", "..", "with/working-directory"),
        ("INPUT_USERNAME", "me", "with/password: should be given together with `username`"),
        ("INPUT_PASSWORD", "p4ss", "with/username: should be given together with `password`"),
        ("GITHUB_REPOSITORY_ID", "x7", "GITHUB_REPOSITORY_ID: should be a number"),
        ("GITHUB_SHA", "", "GITHUB_SHA: should be set by the runner"),
        ("GITHUB_EVENT_PATH", "/absent", "GITHUB_EVENT_PATH: should be a readable event file"),
    ],
)
def test_a_bad_input_is_named_with_what_to_do(
    environ: dict[str, str], name: str, value: str, part: str
) -> None:
    with pytest.raises(UserError) as caught:
        inputs.read({**environ, name: value})
    assert part in str(caught.value)
    assert "p4ss" not in str(caught.value)


def test_build_secrets_are_lines_whose_values_do_not_show_themselves(
    environ: dict[str, str],
) -> None:
    text = "index=p4ss=with=signs\n\n  hf_token=t0ken  \n"
    found = inputs.read({**environ, "INPUT_BUILD_SECRETS": text}).build_secrets
    pairs = [("index", "p4ss=with=signs"), ("hf_token", "t0ken")]
    assert [(one.id, one.value) for one in found] == pairs
    assert "p4ss" not in repr(found)


def test_ghcr_is_logged_in_to_by_the_jobs_own_token(environ: dict[str, str]) -> None:
    found = inputs.read({**environ, "INPUT_GITHUB_TOKEN": "t0ken", "INPUT_REGISTRY": "ghcr.io"})
    assert found.login is not None
    assert (found.login.username, found.login.password) == ("mira", "t0ken")
    assert "t0ken" not in repr(found)


def test_the_jobs_token_goes_to_no_other_registry(environ: dict[str, str]) -> None:
    more = {"INPUT_GITHUB_TOKEN": "t0ken", "INPUT_REGISTRY": "registry.example.org/a"}
    assert inputs.read({**environ, **more}).login is None


@pytest.mark.parametrize(
    ("commits", "changed"),
    [
        (None, None),
        ([], None),
        ([{"id": "1"}], None),  # as runners give it
        ([{"added": ["b"], "modified": ["a"], "removed": []}], ("a", "b")),
        ([{"added": ["b"], "modified": None, "removed": []}], None),
    ],
)
def test_changed_paths_are_known_only_when_every_commit_lists_them(
    environ: dict[str, str], commits: object, changed: tuple[str, ...] | None
) -> None:
    Path(environ["GITHUB_EVENT_PATH"]).write_text(json.dumps({"commits": commits}))
    assert inputs.read(environ).job.changed_paths == changed


def test_a_spec_in_a_folder_is_known_by_its_whole_path(environ: dict[str, str]) -> None:
    found = inputs.read({**environ, "INPUT_WORKING_DIRECTORY": "training"})
    assert found.spec_shown == "training/cynthus.yaml"
    assert found.root == Path(environ["GITHUB_WORKSPACE"]) / "training"
