"""Say under whose authority a request is carried out."""

from __future__ import annotations

from datetime import datetime

from webhook_server.routes.answers import Scope
from webhook_server.routes.parts import Job
from webhook_server.runs.trail import Actor, ActorKind, Authority, Means, Proof


def of_operator(scope: Scope, now: datetime) -> Authority:
    """Return the authority of whom `require_operator` let in."""
    return Authority(
        actor=Actor(kind=ActorKind.OPERATOR, name="operator"),
        source=_door(scope),
        proof=Proof(means=Means.OPERATOR, at=now),
    )


def at_the_keyboard(command: str) -> Authority:
    """Return the authority of who may execute this program beside the server's state."""
    return Authority(
        actor=Actor(kind=ActorKind.OPERATOR, name="operator"),
        source=f"python -m webhook_server {command}",
        proof=Proof(means=Means.OPERATOR),
    )


def of_holder(scope: Scope, run_id: str, now: datetime) -> Authority:
    """Return the authority of who holds the token of one run: the job that asked for it."""
    return Authority(
        actor=Actor(kind=ActorKind.JOB, name=f"the holder of run {run_id}'s token"),
        source=_door(scope),
        proof=Proof(means=Means.RUN_TOKEN, ref=run_id, at=now),
    )


def of_job(scope: Scope, job: Job, sha: str, now: datetime) -> Authority:
    """Return the authority of a workflow job whose token was verified for this commit."""
    return Authority(
        actor=Actor(kind=ActorKind.JOB, name=job.actor),
        source=f"{_door(scope)} {job.repository}",
        proof=Proof(means=Means.TOKEN, ref=job.jti, sha=sha, at=now),
    )


def _door(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']}"
