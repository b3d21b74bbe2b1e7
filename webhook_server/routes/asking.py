"""Find out who asks before a byte of the body is read, at the FastAPI doors."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request

from webhook_server.routes.access import check_origin, job_or_operator, require_operator
from webhook_server.routes.parts import Job, Parts

# Dependencies are met in the order in which a door names them, those of its decorator first:
# https://fastapi.tiangolo.com/tutorial/dependencies/dependencies-in-path-operation-decorators/


def by_operator(parts: Parts) -> Any:
    """Return the dependency that lets in the operator alone."""

    def met(request: Request) -> None:
        require_operator(parts, request.scope)

    return Depends(met)


def by_job(parts: Parts) -> Any:
    """Return the dependency that gives the workflow job that asks, None for the operator."""

    def met(request: Request) -> Job | None:
        return job_or_operator(parts, request.scope)

    return Depends(met)


def from_here() -> Any:
    """Return the dependency that lets in no form of another site.

    For forms of people without a session: their token is every visitor's, and proves nothing.
    """

    def met(request: Request) -> None:
        check_origin(request.scope)

    return Depends(met)
