"""Send the run request with the job's identity token."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from action.inputs import Inputs, Job, TokenDoor
from action.server import Reply, call, host, identity_token
from action.workflow import Console
from cynthus.codec import decode, encode
from cynthus.errors import CynthusError, Fault, Refused, Transient, UserError
from cynthus.wire import RunAccepted, RunRequest, trigger_for
from cynthus.wire_image import Environment

TRIES = 6  # with the pauses below a server may be away for half a minute: a restart, an upgrade
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_PAUSE_S = 60.0  # a server that asks for more is better asked again by a new job


@dataclass(frozen=True, kw_only=True)
class Image:
    """What shall run."""

    name: str  # by digest
    environment: Environment | None = None


def run_request(
    inputs: Inputs, spec_text: str, *, image: Image | None, failure: str | None = None
) -> RunRequest:
    """Return the request for this job's commit."""
    job = inputs.job
    number, trigger = _cause(job)
    return RunRequest(
        repository_id=job.repository_id,
        repository=job.repository,
        commit_sha=job.commit_sha,
        ref=job.ref,
        event=job.event,
        trigger=trigger,
        spec_path=inputs.spec_shown,
        spec_text=spec_text,
        image=image.name if image else None,
        environment=image.environment if image else None,
        failure=failure,
        pull_request=number,
        workflow_run_url=job.run_url,
        changed_paths=job.changed_paths,
    )


def _cause(job: Job) -> tuple[int | None, str]:
    """Return the pull request and the trigger: of a build that was asked for its run's own."""
    if job.asked:
        return job.asked.pull_request, job.asked.trigger
    number = job.pull_request.number if job.pull_request else None
    trigger = trigger_for(
        job.event,
        pull_request=number,
        workflow_run_id=job.run_id,
        run_attempt=job.run_attempt,
    )
    return number, trigger


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Everything that sending needs besides the request."""

    inputs: Inputs
    door: TokenDoor
    console: Console
    wait: Callable[[float], None]


def send(request: RunRequest, sender: Sender) -> RunAccepted:
    """Send the request until the server has it; the same request twice is the same run.

    A token is good for one use, so every try asks for its own.
    Raises: UserError (the spec's faults), Refused, Transient.
    """
    body = json.dumps(encode(request)).encode()
    url = f"{sender.inputs.server_url}/api/v1/runs"
    for again in range(TRIES):
        last = again + 1 == TRIES
        try:
            token = identity_token(sender.door, sender.inputs.audience, sender.console)
            reply = call(url, token=token, body=body)
        except Transient as error:
            if last:
                raise
            _pause(sender, str(error), PAUSES_S[again])
            continue
        if not _passes(reply.status) or last:
            return accepted(reply, url)
        told = f"{host(url)} answers {reply.status}"
        _pause(sender, told, max(PAUSES_S[again], _retry_after_s(reply)))
    raise AssertionError("the last try returns or raises")


def _passes(status: int) -> bool:
    return status >= 500 or status in {408, 425, 429}  # noqa: PLR2004 - HTTP


def _retry_after_s(reply: Reply) -> float:
    text = reply.headers.get("retry-after", "")
    return min(float(text), LONGEST_PAUSE_S) if text.isascii() and text.isdigit() else 0.0


def _pause(sender: Sender, reason: str, seconds: float) -> None:
    sender.console.say(f"{reason}; trying again in {seconds:g} s")
    sender.wait(seconds)


def accepted(reply: Reply, url: str) -> RunAccepted:
    """Turn the server's answer into a run, or into what the user can do about it."""
    if reply.status in {200, 201, 202}:
        run = decode(RunAccepted, reply.json(), "answer")
        if run.token:
            return run
        raise Refused(f"{host(url)} accepted the run without a token to read it.")
    message = _message(reply)
    if reply.status in {400, 409, 413, 415, 422}:
        raise UserError(f"{message}", _faults(reply))
    if 300 <= reply.status < 400:  # noqa: PLR2004 - HTTP
        where = reply.headers.get("location", "elsewhere")
        raise Refused(
            f"with/server: should be the server's own address, but {host(url)} sends to {where}. "
            f"Write that address."
        )
    if _passes(reply.status):
        raise Transient(f"{host(url)} answers {reply.status}: {message}")
    raise Refused(f"{host(url)} refuses the run ({reply.status}): {message}")


def _message(reply: Reply) -> str:
    found = reply.json()
    error = found.get("error") if isinstance(found, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return str(message) if message else "no reason was given"


def _faults(reply: Reply) -> tuple[Fault, ...]:
    found = reply.json()
    error = found.get("error") if isinstance(found, dict) else None
    listed = error.get("faults") if isinstance(error, dict) else None
    try:
        return decode(_Faults, {"faults": listed or []}).faults
    except CynthusError:
        return ()


@dataclass(frozen=True)
class _Faults:
    faults: tuple[Fault, ...]
