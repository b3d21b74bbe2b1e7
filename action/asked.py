"""Read what the server asked for by a `repository_dispatch`: the build that one run waits for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cynthus.wire import DISPATCH_TYPE

EVENT = "repository_dispatch"
_RUN_ID = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_TRIGGER = re.compile(r"[a-z_]+(?:/[A-Za-z0-9_.-]+){0,3}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One build, with the key of the run that waits for it."""

    run_id: str
    commit_sha: str
    spec_path: str  # within the repository
    trigger: str
    pull_request: int | None
    fork: bool  # a stranger's commit, approved by somebody with the right to


def read(event: str, payload: Mapping[str, Any], faults: list[str]) -> Asked | None:
    """Return what was asked for; None for other events, and for dispatches that mean others.

    `payload` is the event as GitHub hands it over. Pure; what is wrong goes into `faults`: whoever
    may write contents can send any dispatch.
    """
    if event != EVENT or payload.get("action") != DISPATCH_TYPE:
        return None
    found = payload.get("client_payload")
    told = found if isinstance(found, dict) else {}
    names = {"run_id": _RUN_ID, "commit_sha": _COMMIT, "trigger": _TRIGGER}
    wrong = [name for name, shape in names.items() if not _fits(told.get(name), shape)]
    path, number, fork = (told.get(name) for name in ("spec_path", "pull_request", "fork"))
    wrong += [] if _is_path(path) else ["spec_path"]
    wrong += [] if number is None or type(number) is int else ["pull_request"]
    wrong += [] if isinstance(fork, bool) else ["fork"]
    if wrong:
        faults.append(
            f"client_payload: should be what the Cynthus server sends, found no fitting "
            f"{', '.join(wrong)}. Leave dispatches of the type `{DISPATCH_TYPE}` to the server."
        )
        return None
    return Asked(
        run_id=told["run_id"],
        commit_sha=told["commit_sha"],
        spec_path=str(path),
        trigger=told["trigger"],
        pull_request=number,
        fork=bool(fork),
    )


def _fits(value: object, shape: re.Pattern[str]) -> bool:
    return isinstance(value, str) and shape.fullmatch(value) is not None


def _is_path(value: object) -> bool:
    if not isinstance(value, str) or not value or not value.isprintable():
        return False
    return not value.startswith(("/", "-", "~")) and ".." not in PurePosixPath(value).parts
