"""Put the doors that FastAPI serves together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from cynthus.errors import Refused, Transient, UserError
from webhook_server.routes.access import require_operator
from webhook_server.routes.answers import CONTENT_TOO_LARGE, HttpRefusal, drain, error_body
from webhook_server.routes.bodies import json_answer
from webhook_server.routes.parts import Parts
from webhook_server.stores.run_reading import RunUnreadable
from webhook_server.stores.secret_protocol import SecretUnreadable

PeopleRefusal = Callable[[Request, HttpRefusal], Response]  # makes a page for people

_PROGRAMS = ("/api/", "/agent/", "/agent.pyz", "/metrics")
_TITLE = "Cynthus"
_STATUS_TEXTS = {
    404: "address: is not one of this server's. Check its spelling.",
    405: "method: is not served here. Check the method.",
}


def build_pages(parts: Parts, routers: tuple[APIRouter, ...], *, people: PeopleRefusal) -> FastAPI:
    """Return the application; its own documentation is for the operator only."""
    app = FastAPI(title=_TITLE, openapi_url=None, docs_url=None, redoc_url=None)
    for router in routers:
        app.include_router(router)
    _handle_errors(app, people)

    @app.get("/api/v1/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> Response:
        require_operator(parts, request.scope)
        return json_answer(200, _openapi(app))

    return app


def _handle_errors(app: FastAPI, people: PeopleRefusal) -> None:
    def answer(request: Request, refusal: HttpRefusal) -> Response:
        if not request.url.path.startswith(_PROGRAMS):
            return people(request, refusal)
        body = error_body(refusal.status, refusal.message)
        response = json_answer(refusal.status, body)
        response.headers.update(refusal.headers)
        return response

    async def refusal(request: Request, error: Exception) -> Response:
        found = _as_refusal(error)
        if found.status == CONTENT_TOO_LARGE:
            await drain(request.receive)
        return answer(request, found)

    for kind in (
        HttpRefusal,
        UserError,
        RunUnreadable,
        Transient,
        SecretUnreadable,
        Refused,
        RequestValidationError,
        HTTPException,
    ):
        app.add_exception_handler(kind, refusal)


def _as_refusal(error: Exception) -> HttpRefusal:
    match error:
        case HttpRefusal():
            return error
        case UserError():
            return HttpRefusal(422, str(error))
        case RunUnreadable():
            return HttpRefusal(410, str(error))
        case Transient():
            return HttpRefusal(503, str(error), retry_after_s=1)
        case SecretUnreadable() | Refused():
            return HttpRefusal(503, str(error), retry_after_s=30)
        case RequestValidationError():
            return HttpRefusal(422, "\n".join(_told(fault) for fault in error.errors()))
        case HTTPException():
            text = _STATUS_TEXTS.get(error.status_code, f"request: {error.detail}.")
            return HttpRefusal(error.status_code, text)
        case _:
            raise error


def _told(fault: dict[str, Any]) -> str:
    return f"{fault['loc'][-1]}: {fault['msg'][:1].lower()}{fault['msg'][1:]}."


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the description of /api/v1, with the messages as their schemas tell them."""
    from cynthus import schema

    document = get_openapi(title=_TITLE, version="1", routes=app.routes)
    document["paths"] = {p: v for p, v in document["paths"].items() if p.startswith("/api/v1")}
    told = (name for _, _, request, answer in _MESSAGES for name in (request, answer) if name)
    messages = {name: schema.load(name) for name in sorted({n.strip("[]") for n in told})}
    document.setdefault("components", {}).setdefault("schemas", {}).update(messages)
    for path, method, request, answer in _MESSAGES:
        operation = document["paths"].setdefault(path, {}).setdefault(method, {})
        _describe(operation, request, answer, "202" if request == "run_request" else "200")
    return document


_MESSAGES = (
    ("/api/v1/runs", "post", "run_request", "run_accepted"),
    ("/api/v1/runs/{run_id}", "get", None, "run_view"),
    ("/api/v1/runs/{run_id}/events", "get", None, "[run_event]"),
    ("/api/v1/runs/{run_id}/outputs", "get", None, "[output_view]"),
    ("/api/v1/locks", "get", None, "lock_view"),
    ("/api/v1/images", "get", None, "images_in_use"),
    ("/api/v1/build-leases", "post", "build_lease_ask", "build_lease_view"),
)


def _describe(operation: dict[str, Any], request: str | None, answer: str, status: str) -> None:
    if request is not None:
        operation["requestBody"] = {"required": True, **_content(request)}
    operation.setdefault("responses", {})[status] = {"description": "Done", **_content(answer)}


def _content(name: str) -> dict[str, Any]:
    reference: dict[str, Any] = {"$ref": f"#/components/schemas/{name.strip('[]')}"}
    found = {"type": "array", "items": reference} if name.startswith("[") else reference
    return {"content": {"application/json": {"schema": found}}}
