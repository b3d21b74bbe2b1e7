"""Answer the command line, the Action, and the dashboard's script: /api/v1."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from cynthus.codec import encode
from cynthus.frozen import replace
from cynthus.spec import Spec
from cynthus.wire import RunAccepted, RunRequest, trigger_for
from webhook_server.acting import under
from webhook_server.auth.oidc import DISPATCH
from webhook_server.auth.tokens import run_token
from webhook_server.routes.access import is_operator, require_reader
from webhook_server.routes.answers import HttpRefusal, parse_json
from webhook_server.routes.asking import by_job, by_operator
from webhook_server.routes.authorities import of_holder, of_job, of_operator
from webhook_server.routes.bodies import json_answer, limited_body
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
from webhook_server.views import Told, run_view, signed_outputs

# A lock of 1 MiB and an SBOM of 2, whose quotes and ends of lines JSON writes as two characters;
# 2 MiB for the spec and the paths of a push.
BODY_LIMIT_BYTES = 8 << 20
RUN_TOKEN_LIFE = timedelta(days=14)  # GitHub calls a check run stale after as long
EVENTS_A_PAGE = 1000


def client_router(parts: Parts) -> APIRouter:
    """Return the doors under /api/v1, list and stream aside."""
    router = APIRouter(prefix="/api/v1", tags=["runs"])
    body = Depends(limited_body(BODY_LIMIT_BYTES))

    who = by_job(parts)

    @router.post("/runs", status_code=202)
    def submit(request: Request, job: Job | None = who, content: bytes = body) -> Response:
        """Ask for a run; safe to repeat."""
        return json_answer(202, encode(_submit(parts, request, job, content)))

    @router.get("/runs/{run_id}")
    def get(request: Request, run_id: str) -> Response:
        """Return one run."""
        run = _readable(parts, request, run_id)
        view = run_view(run, told(parts, run_id), base_url=parts.base_url, now=parts.now())
        return json_answer(200, encode(view))

    @router.get("/runs/{run_id}/events")
    def events(
        request: Request,
        run_id: str,
        after: int = Query(0, ge=0, le=2**63 - 1),
        limit: int = Query(EVENTS_A_PAGE, ge=1, le=EVENTS_A_PAGE),
    ) -> Response:
        """Return the feed after a place in it, oldest first."""
        _readable(parts, request, run_id)
        return json_answer(200, encode(parts.events.after(run_id, after, limit=limit)))

    @router.get("/runs/{run_id}/log")
    def log(
        request: Request,
        run_id: str,
        attempt: int | None = Query(None, ge=1, le=10**6),
        rank: int | None = Query(None, ge=0, le=10**6),
    ) -> Response:
        """Return an attempt's log as text: the newest attempt's, of a gang all ranks together."""
        run = _readable(parts, request, run_id)
        number = attempt or (run.attempt.number if run.attempt else 0)
        return StreamingResponse(
            _encoded(parts.events.log_text(run_id, number, rank)),
            media_type="text/plain; charset=utf-8",
            headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
        )

    @router.post("/runs/{run_id}/cancel", status_code=202)
    def cancel(request: Request, run_id: str) -> Response:
        """Ask for the run's end; safe to repeat."""
        _readable(parts, request, run_id)
        if is_operator(parts, request.scope):
            by, acting = "the operator", of_operator(request.scope, parts.now())
        else:
            by, acting = "the holder of its token", of_holder(request.scope, run_id, parts.now())
        with under(acting):
            cancel_run(parts, run_id, by)
        return json_answer(202, {"run_id": run_id})

    @router.post("/runs/cancel", status_code=202, dependencies=[by_operator(parts)])
    def cancel_all(
        request: Request, repository_id: int | None = Query(None, ge=0, le=2**63 - 1)
    ) -> Response:
        """Ask for the end of all live runs, or of a repository's; the operator may. Repeatable."""
        with under(of_operator(request.scope, parts.now())):
            asked = parts.runs.cancel_all("the operator", parts.now(), repository_id=repository_id)
        parts.bell.ring("runs")
        return json_answer(202, {"runs": asked})

    @router.get("/runs/{run_id}/outputs")
    def outputs(request: Request, run_id: str) -> Response:
        """Return the run's files with addresses good for an hour."""
        run = _readable(parts, request, run_id)
        views = signed_outputs(
            run, base_url=parts.base_url, server_key=parts.server_key, now=parts.now()
        )
        return json_answer(200, encode(views))

    return router


def _encoded(texts: Iterator[str]) -> Iterator[bytes]:
    return (text.encode("utf-8", "replace") for text in texts)


def _readable(parts: Parts, request: Request, run_id: str) -> Run:
    require_reader(parts, request.scope, run_id)
    run = parts.runs.get(run_id)
    if run is None:
        raise HttpRefusal(404, "run: is not known. Check its id.")
    return run


def told(parts: Parts, run_id: str) -> Told:
    """Return what the run's own events say."""
    latest = parts.events.latest(run_id)
    return Told(
        progress=latest.progress,
        phase=latest.phase,
        metrics=latest.metrics,
        notices=latest.notices,
        marks=latest.marks,
    )


def cancel_run(parts: Parts, run_id: str, by: str) -> None:
    """Note the wish, wake the loop; a run that has ended stays as it is."""
    if parts.runs.cancel(run_id, by, parts.now()):
        parts.bell.ring("runs")


# ── submit ──────────────────────────────────────────────────────────────────────────────────────


def _submit(parts: Parts, request: Request, job: Job | None, content: bytes) -> RunAccepted:
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
    with under(_authority(parts, request, job, wanted)):
        accepted = _accept(parts, draft, wanted, job)
        _end_the_first(parts, wanted)
    if refusal is not None:
        raise refusal
    return _accepted(parts, accepted.run_id)


def _authority(parts: Parts, request: Request, job: Job | None, wanted: RunRequest) -> Authority:
    if job is None:
        return of_operator(request.scope, parts.now())
    return of_job(request.scope, job, wanted.commit_sha, parts.now())


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


def _end_the_first(parts: Parts, wanted: RunRequest) -> None:
    """End the run that still waits for the workflow run's first attempt: this is a later one."""
    first = trigger_for(wanted.event, pull_request=wanted.pull_request, workflow_run_id="")
    if first == wanted.trigger or not wanted.trigger.startswith(f"{first}/"):
        return
    waiting = parts.runs.find(replace(_key(wanted), trigger=first))
    if waiting is not None and waiting.state is State.BUILDING:
        cancel_run(parts, waiting.id, "a later attempt of its workflow run")


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


def _accept(parts: Parts, draft: RunDraft, wanted: RunRequest, job: Job | None) -> Accepted:
    environment = wanted.environment
    owner_id = job.owner_id if job else 0
    arrived = ImageArrived(
        image=wanted.image,
        failure=wanted.failure,
        environment=kept(owner_id, environment) if environment and wanted.image else None,
    )
    token_id = (job.jti, job.expires_at) if job else None
    try:
        accepted = parts.runs.accept(
            draft,
            arrived=arrived,
            token_id=token_id,
            now=parts.now(),
            environment=environment,
        )
    except TokenReused as error:
        raise HttpRefusal(401, str(error)) from error
    except SpecDiffers as error:
        raise HttpRefusal(409, str(error)) from error
    parts.bell.ring("runs")
    return accepted


def _accepted(parts: Parts, run_id: str) -> RunAccepted:
    expires_at = parts.now() + RUN_TOKEN_LIFE
    return RunAccepted(
        run_id=run_id,
        url=f"{parts.base_url}/runs/{run_id}",
        token=run_token(parts.server_key, run_id, expires_at),
    )
