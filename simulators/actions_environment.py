"""What a job's processes find in their environment.

https://docs.github.com/en/actions/reference/workflows-and-actions/variables#default-environment-variables
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from simulators.actions_values import Value, to_text

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A job starts with nothing of the person who runs the simulator, as on a fresh machine. But a
# machine behind a proxy, with its own certificates, package mirror or Docker engine reaches
# nothing without being told so; a hosted runner has the same in its image.
_WAYS_OUT = re.compile(
    r"(PIP|UV|NPM_CONFIG|npm_config)_\w+|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE"
    r"|NODE_EXTRA_CA_CERTS|GIT_SSL_CAINFO|DOCKER_(HOST|CONFIG|CERT_PATH|TLS_VERIFY|BUILDKIT)"
    r"|(http|https|no|all)_proxy|(HTTP|HTTPS|NO|ALL)_PROXY|TZ\Z"
)
# These say where pip puts things, which is the job's own affair.
_NOT_PASSED = {"PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_CACHE_DIR"}
_ARCHITECTURES = {"x86_64": "X64", "aarch64": "ARM64", "arm64": "ARM64"}

_GITHUB_NAMES = (
    "action", "action_path", "action_ref", "action_repository", "actor", "actor_id", "api_url",
    "base_ref", "event_name", "event_path", "graphql_url", "head_ref", "job", "ref", "ref_name",
    "ref_protected", "ref_type", "repository", "repository_id", "repository_owner",
    "repository_owner_id", "retention_days", "run_attempt", "run_id", "run_number", "server_url",
    "sha", "triggering_actor", "workflow", "workflow_ref", "workflow_sha", "workspace",
)  # fmt: skip


def runner_context(work: Path, name: str) -> dict[str, Value]:
    """Describe this machine as the `runner` context does."""
    return {
        "name": name,
        "os": "macOS" if platform.system() == "Darwin" else "Linux",
        "arch": _ARCHITECTURES.get(platform.machine(), "X64"),
        "temp": str(work / "_temp"),
        "tool_cache": str(work / "_tool"),
        "workspace": str(work),
        "environment": "self-hosted",
    }


def base_environment(home: Path) -> dict[str, str]:
    """Build the environment before GitHub adds to it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if _WAYS_OUT.match(name) and name not in _NOT_PASSED
    }
    return _pip_configuration() | kept | {"PATH": _PATH, "HOME": str(home), "LANG": "C.UTF-8"}


def _pip_configuration() -> dict[str, str]:
    """Name the person's pip.conf, which the job's own HOME would hide."""
    for path in ("~/.config/pip/pip.conf", "~/.pip/pip.conf"):
        if (found := Path(path).expanduser()).exists():
            return {"PIP_CONFIG_FILE": str(found)}
    return {}


def github_variables(github: Mapping[str, Value]) -> dict[str, str]:
    """Turn the `github` context into `GITHUB_*`."""
    present = [name for name in _GITHUB_NAMES if github.get(name) is not None]
    return {f"GITHUB_{name.upper()}": to_text(github[name]) for name in present} | {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
    }


def runner_variables(runner: Mapping[str, Value]) -> dict[str, str]:
    """Turn the `runner` context into `RUNNER_*`."""
    return {f"RUNNER_{name.upper()}": to_text(value) for name, value in runner.items()}
