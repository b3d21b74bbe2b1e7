"""Make runs and what is seen of them, so that a test names only what matters to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from cynthus.spec import Output as SpecOutput
from cynthus.spec import Resources, Retry, Spec
from cynthus.wire import AgentState, Exit, Facts, Output
from cynthus.wire_image import Environment, Framework
from webhook_server.runs.environments import kept
from webhook_server.runs.lending import Denial, Gone, Offer, Refusal, Scope
from webhook_server.runs.model import (
    Attempt,
    Cause,
    EnvironmentKept,
    Member,
    Reason,
    Run,
    RunDraft,
    RunKey,
    State,
)
from webhook_server.runs.observations import (
    AgentSeen,
    CreateOutcome,
    CreateSeen,
    InstanceSeen,
    Observations,
    ProviderSeen,
)
from webhook_server.settings import Secret
from webhook_server.stores.app_store import AppKeys, StoredApp

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SPEC_TEXT = "version: 1\nname: digits\nrun: python train.py\n"
IMAGE = "registry.test/digits@sha256:" + "a" * 64
OUTPUT = Output(path="model/weights.bin", size_bytes=7, sha256="c" * 64)


def a_spec(**changes: Any) -> Spec:
    given: dict[str, Any] = {
        "name": "digits",
        "run": "python train.py",
        "resources": Resources(),
        "outputs": (SpecOutput("model"),),
        "retry": Retry(3),
    }
    return Spec(**(given | changes))


def a_key(**changes: Any) -> RunKey:
    given: dict[str, Any] = {
        "repository_id": 7,
        "commit_sha": "b" * 40,
        "spec_path": "cynthus.yaml",
        "trigger": "push",
    }
    return RunKey(**(given | changes))


def a_draft(**changes: Any) -> RunDraft:
    given: dict[str, Any] = {
        "id": "arun00000001",
        "key": a_key(),
        "repository": "acme/vision",
        "ref": "refs/heads/main",
        "event": "push",
        "default_branch": "main",
        "pull_request": None,
        "workflow_run_url": None,
        "spec": a_spec(),
        "spec_text": SPEC_TEXT,
        "wants_release": True,
    }
    return RunDraft(**(given | changes))


def an_offer(**changes: Any) -> Offer:
    given: dict[str, Any] = {
        "provider": "fake",
        "place": "here",
        "machine": "small",
        "gpu_type": None,
        "gpu_count": 0,
        "cpu": 2,
        "memory_bytes": 1 << 30,
        "usd_per_hour": Decimal("3.60"),
    }
    return Offer(**(given | changes))


def an_environment(**changes: Any) -> Environment:
    given: dict[str, Any] = {
        "key": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        "base": "docker.io/library/python:3.11-slim-bookworm",
        "base_digest": "sha256:" + "e" * 64,
        "python": "3.11",
        "frameworks": (Framework(name="torch", version="2.7.0", cuda="12.8"),),
        "minimum_driver": "570.26",
        "lock": "torch==2.7.0 --hash=sha256:00\n",
        "sbom": '{"bomFormat": "CycloneDX"}',
    }
    return Environment(**(given | changes))


def a_kept(**changes: Any) -> EnvironmentKept:
    return kept(41, an_environment(**changes))


def an_attempt(number: int = 1, **changes: Any) -> Attempt:
    """Make an attempt; what belongs to its instances is given to each of them."""
    names = changes.pop("names", None) or (f"cynthus-arun00000001-{number}",)
    ordered_at = changes.get("ordered_at", NOON)
    told = {name: changes.pop(name) for name in _OF_MEMBERS if name in changes}
    if "started_at" in changes:
        told["started_at"] = changes["started_at"]
        told.setdefault("seen_at", changes["started_at"])
    members = tuple(
        Member(**{"name": name, "rank": rank, "last_try_at": ordered_at} | told)
        for rank, name in enumerate(names)
    )
    given: dict[str, Any] = {
        "number": number,
        "offer": an_offer(),
        "ordered_at": ordered_at,
        "max_life": timedelta(hours=26),
        "members": members,
    }
    return Attempt(**(given | changes))


_OF_MEMBERS = ("last_try_at", "create_answered", "seen_at", "provided_at", "quiet_at", "gone_at")


def a_refused(number: int, **changes: Any) -> Attempt:
    """Make an attempt that the place had no capacity for."""
    reason = Reason(cause=Cause.NO_CAPACITY, text="none")
    given = {"reason": reason, "lost": True, "ended_at": NOON, "gone_at": NOON}
    return an_attempt(number, **(given | changes))


def a_lost(number: int, **changes: Any) -> Attempt:
    """Make an attempt whose instance vanished."""
    reason = Reason(cause=Cause.GONE, text="gone")
    given = {"reason": reason, "lost": True, "ended_at": NOON, "gone_at": NOON, "started_at": NOON}
    return an_attempt(number, **(given | changes))


def a_run(state: State = State.RUNNING, **changes: Any) -> Run:
    given: dict[str, Any] = {
        "id": "arun00000001",
        "key": a_key(),
        "repository": "acme/vision",
        "number": 1,
        "spec": a_spec(),
        "spec_sha256": "d" * 64,
        "state": state,
        "state_since": NOON,
        "reason": Reason(cause=Cause.PROGRESS, text="as it was"),
        "created_at": NOON,
        "image": None if state is State.BUILDING else IMAGE,
        "attempts": () if state in {State.BUILDING, State.QUEUED} else (an_attempt(),),
        "wants_release": True,
    }
    return Run(**(given | changes))


def an_agent(state: AgentState = AgentState.RUNNING, **changes: Any) -> AgentSeen:
    given: dict[str, Any] = {
        "enrolled_at": NOON,
        "heartbeat_at": NOON,
        "state": state,
        "engine": "docker",
    }
    return AgentSeen(**(given | changes))


def an_exit(code: int | None = 0, **changes: Any) -> Exit:
    return Exit(code=code, **changes)


def of_newest(run: Run, **seen: Any) -> Observations:
    """Say what is seen: `agent`, `provider`, `create`, `closed` of the newest first instance."""
    told = {name: seen.pop(name) for name in _OF_INSTANCES if name in seen}
    names = [run.attempt.instance] if run.attempt is not None else []
    return Observations(instances={name: InstanceSeen(**told) for name in names}, **seen)


_OF_INSTANCES = ("agent", "provider", "create", "closed")


def refused(
    denial: Denial, text: str, *, at: datetime = NOON, scope: Scope = Scope.ZONE
) -> CreateSeen:
    refusal = Refusal(denial=denial, text=text, scope=scope)
    return CreateSeen(outcome=CreateOutcome.REFUSED, at=at, detail=text, refusal=refusal)


def created(at: datetime = NOON) -> CreateSeen:
    return CreateSeen(outcome=CreateOutcome.CREATED, at=at)


def absent(at: datetime = NOON) -> ProviderSeen:
    return ProviderSeen(gone=Gone.ABSENT, asked_at=at)


def present(at: datetime = NOON) -> ProviderSeen:
    return ProviderSeen(gone=Gone.PRESENT, asked_at=at)


def some_facts(**changes: Any) -> Facts:
    given: dict[str, Any] = {
        "engine": "docker",
        "cpu_count": 2,
        "memory_bytes": 1 << 30,
        "disk_free_bytes": 1 << 33,
    }
    return Facts(**(given | changes))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


STORED_APP = StoredApp(
    id="7",
    slug="ours",
    name="Ours",
    url="https://github.test/apps/ours",
    owner="ada",
    allowed=("5",),
    made_at="2026-01-31T12:00:00Z",
)
APP_KEYS = AppKeys(
    private_key=Secret("a pem"), webhook_secret=Secret("s" * 40), client_secret=Secret("c" * 40)
)
