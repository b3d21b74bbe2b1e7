"""Take requests for runs: plain ASGI, since FastAPI would cost more than accepting one does."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta

from cynthus.codec import encode
from cynthus.errors import Refused, UserError
from cynthus.frozen import replace
from cynthus.spec import Spec
from cynthus.wire import DISPATCH, RunAccepted, RunRequest, trigger_for
from webhook_server.acting import under
from webhook_server.auth.tokens import run_token
from webhook_server.routes.access import job_or_operator
from webhook_server.routes.answers import (
    JSON_TYPE,
    Door,
    HttpRefusal,
    Receive,
    Scope,
    Send,
    answer_json,
    check_length,
    check_type,
    is_whole,
    parse_json,
    read_body,
)
from webhook_server.routes.authorities import of_job, of_operator
from webhook_server.routes.landing import Landing
from webhook_server.routes.parts import Job, Parts
from webhook_server.routes.run_requests import (
    check_cuda,
    check_image,
    check_secrets,
    check_trigger,
    read_request,
    read_spec,
)
from webhook_server.runs.environments import kept
from webhook_server.runs.model import Run, RunDraft, RunKey, State
from webhook_server.runs.observations import ImageArrived
from webhook_server.runs.trail import Authority
from webhook_server.stores.run_accepting import Accepted, SpecDiffers, TokenReused
from webhook_server.stores.secret_protocol import SecretUnreadable
from webhook_server.traces import run_accepted

# A lock of 1 MiB and an SBOM of 2, whose quotes and ends of lines JSON writes as two characters;
# 2 MiB for the spec and the paths of a push.
BODY_LIMIT_BYTES = 8 << 20
RUN_TOKEN_LIFE = timedelta(days=14)  # GitHub calls a check run stale after as long


def accept_door(parts: Parts) -> Door:
    """Return the door POST /api/v1/runs: ask for a run; safe to repeat."""
    landing = Landing()

    def submit(scope: Scope, content: bytes) -> _Submitted:
        return _submit(parts, scope, job_or_operator(parts, scope), content)

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            raise HttpRefusal(405, "method: is not served here. Check the method.")
        whole = is_whole(scope)
        try:
            if not whole:  # a stranger's body is not waited for
                await asyncio.to_thread(job_or_operator, parts, scope)
            check_type(scope, JSON_TYPE)
            check_length(scope, BODY_LIMIT_BYTES)
            content = await read_body(receive, BODY_LIMIT_BYTES, whole=whole)
            submitted = await asyncio.to_thread(submit, scope, content)
            accepted = await _landed(landing, submitted.answer)
            parts.bell.ring("runs")
            if submitted.first_trigger is not None:
                await asyncio.to_thread(_end_the_first, parts, submitted)
        except UserError as error:
            raise HttpRefusal(422, str(error)) from error
        except (SecretUnreadable, Refused) as error:
            raise HttpRefusal(503, str(error), retry_after_s=30) from error
        if submitted.refusal is not None:
            raise submitted.refusal
        await answer_json(send, 202, encode(_accepted(parts, accepted.run_id)))

    return door


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    """A request for a run on its way to the database: no thread waits there, many may come."""

    wanted: RunRequest
    authority: Authority
    answer: Future[Accepted]
    refusal: HttpRefusal | None  # its run learns it, and so does whoever asked

    @property
    def first_trigger(self) -> str | None:
        """Return what the workflow run's first attempt asked by, if this is a later one."""
        wanted = self.wanted
        first = trigger_for(wanted.event, pull_request=wanted.pull_request, workflow_run_id="")
        is_later = first != wanted.trigger and wanted.trigger.startswith(f"{first}/")
        return first if is_later else None


async def _landed(landing: Landing, answer: Future[Accepted]) -> Accepted:
    try:
        accepted = await landing.wait_for(answer)
    except TokenReused as error:
        raise HttpRefusal(401, str(error)) from error
    except SpecDiffers as error:
        raise HttpRefusal(409, str(error)) from error
    run_accepted(accepted.run_id)
    return accepted


def _submit(parts: Parts, scope: Scope, job: Job | None, content: bytes) -> _Submitted:
    wanted = read_request(parse_json(content))
    _authorise(parts, job, wanted)
    asked = _asked_for(parts, wanted)
    if asked is not None:
        wanted = _answer_to(parts, asked, wanted)
    # What was asked for has its spec already, with what a person changed on top of the file.
    spec, faults = (asked.spec, asked.spec_faults) if asked else read_spec(wanted)
    branch = parts.jobs.default_branch(job) if job and parts.jobs else ""
    if spec is not None:
        check_trigger(wanted, spec, branch)
    elif job is None:  # the person who sent it reads the answer; of a job the check run tells
        raise HttpRefusal(422, "\n".join(f"{f.line}:{f.column}: {f.text}" for f in faults))
    draft = RunDraft(
        id=parts.new_id(),
        key=_key(wanted),
        repository=job.repository if job else wanted.repository,
        ref=wanted.ref,
        event=wanted.event,
        default_branch=branch,
        pull_request=wanted.pull_request,
        workflow_run_url=wanted.workflow_run_url,
        spec=spec,
        spec_text=wanted.spec_text,
        spec_faults=faults,
        wants_release=_wants_release(wanted, branch),
    )
    refusal = _unfit(parts, wanted, spec, job, asked)
    if refusal is not None:  # the run that the webhook made ends with the same words
        wanted = replace(wanted, image=None, failure=refusal.message, environment=None)
    authority = _authority(parts, scope, job, wanted)
    with under(authority):
        answer = _accept(parts, draft, wanted, job)
    return _Submitted(wanted=wanted, authority=authority, answer=answer, refusal=refusal)


def _authority(parts: Parts, scope: Scope, job: Job | None, wanted: RunRequest) -> Authority:
    if job is None:
        return of_operator(scope, parts.now())
    return of_job(scope, job, wanted.commit_sha, parts.now())


def _asked_for(parts: Parts, wanted: RunRequest) -> Run | None:
    """Return the run that had this build asked for; `_authorise` has found it waiting."""
    return parts.runs.find(_key(wanted)) if wanted.event == DISPATCH else None


def _answer_to(parts: Parts, asked: Run, wanted: RunRequest) -> RunRequest:
    """Return a failure with the run's own spec text: a build may fail before it has the file."""
    if wanted.failure is None:
        return wanted
    return replace(wanted, spec_text=parts.runs.spec_text(asked.id) or wanted.spec_text)


def _unfit(
    parts: Parts, wanted: RunRequest, spec: Spec | None, job: Job | None, asked: Run | None
) -> HttpRefusal | None:
    """Return why the run cannot be had like this. Raises it where nobody else would tell."""
    try:
        check_image(parts, wanted, spec, local=job is None)
        if spec is not None:
            check_cuda(wanted, spec)
            if asked is None or not asked.origin.fork:  # a fork's run gets none in any case
                check_secrets(parts, wanted, spec)
    except HttpRefusal as refusal:
        if job is None:
            raise
        return refusal
    return None


def _end_the_first(parts: Parts, later: _Submitted) -> None:
    """End the run that still waits for the workflow run's first attempt: this is a later one."""
    if later.first_trigger is None:
        return
    waiting = parts.runs.find(replace(_key(later.wanted), trigger=later.first_trigger))
    if waiting is not None and waiting.state is State.BUILDING:
        with under(later.authority):
            parts.runs.cancel(waiting.id, "a later attempt of its workflow run", parts.now())
        parts.bell.ring("runs")


def _authorise(parts: Parts, job: Job | None, wanted: RunRequest) -> None:
    if job is not None and parts.jobs is not None:
        parts.jobs.authorise(job, wanted)
    elif wanted.repository_id != 0:
        raise HttpRefusal(403, "repository_id: should be 0 without a workflow job's token.")


def _key(wanted: RunRequest) -> RunKey:
    return RunKey(
        repository_id=wanted.repository_id,
        commit_sha=wanted.commit_sha,
        spec_path=wanted.spec_path,
        trigger=wanted.trigger,
    )


def _wants_release(wanted: RunRequest, default_branch: str) -> bool:
    """Release outputs of the default branch; those of a pull request are looked at first."""
    return (
        wanted.repository_id != 0
        and wanted.event != DISPATCH  # comes from the default branch, and speaks of another commit
        and bool(default_branch)
        and (wanted.ref == f"refs/heads/{default_branch}")
    )


def _accept(parts: Parts, draft: RunDraft, wanted: RunRequest, job: Job | None) -> Future[Accepted]:
    environment = wanted.environment
    owner_id = job.owner_id if job else 0
    arrived = ImageArrived(
        image=wanted.image,
        failure=wanted.failure,
        environment=kept(owner_id, environment) if environment and wanted.image else None,
    )
    token_id = (job.jti, job.expires_at) if job else None
    return parts.runs.accept_async(
        draft, arrived=arrived, token_id=token_id, now=parts.now(), environment=environment
    )


def _accepted(parts: Parts, run_id: str) -> RunAccepted:
    expires_at = parts.now() + RUN_TOKEN_LIFE
    return RunAccepted(
        run_id=run_id,
        url=f"{parts.base_url}/runs/{run_id}",
        token=run_token(parts.server_key, run_id, expires_at),
    )
