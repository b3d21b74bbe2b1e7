"""Answer the command line, the Action, and the dashboard's script: /api/v1."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from cynthus.codec import encode
from webhook_server.acting import under
from webhook_server.routes.access import is_operator, require_reader
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.asking import by_operator
from webhook_server.routes.authorities import of_holder, of_operator
from webhook_server.routes.bodies import json_answer
from webhook_server.routes.parts import Parts
from webhook_server.runs.model import Run
from webhook_server.views import Told, run_view, signed_outputs

EVENTS_A_PAGE = 1000


def client_router(parts: Parts) -> APIRouter:
    """Return the doors under /api/v1; asking for a run, the list and the stream aside."""
    router = APIRouter(prefix="/api/v1", tags=["runs"])

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
