"""Show the trail to people, or hand it out line by line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from cynthus.codec import encode
from webhook_server.routes.access import require_operator, require_reader
from webhook_server.routes.answers import HttpRefusal
from webhook_server.routes.parts import Parts
from webhook_server.routes.people import People
from webhook_server.runs.trail import DeedVerb, TrailRow
from webhook_server.stores.repository_store import RepositoryStore
from webhook_server.stores.trail_store import TrailStore, Wanted

ROWS_A_PAGE = 100
LINES_A_PAGE = 1000
_LONGEST = 200  # of a filter's text: a repository's full name has at most 140 characters
_Text = Annotated[str, Query(max_length=_LONGEST)]
_VERBS = frozenset(verb.value for verb in DeedVerb)


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a request asks for, as text."""

    run: _Text = ""
    repository: _Text = ""
    actor: _Text = ""
    verb: _Text = ""
    since: _Text = ""
    until: _Text = ""


def trail_router(parts: Parts) -> APIRouter:
    """Return the page of the trail, and the door that exports it."""
    router = APIRouter()
    trail, people = TrailStore(parts.database), People(parts)
    filters = Depends(Filters)

    @router.get("/api/v1/trail", tags=["trail"])
    def export(
        request: Request,
        asked: Filters = filters,
        after: int = Query(0, ge=0, le=2**63 - 1),
        limit: int = Query(LINES_A_PAGE, ge=1, le=LINES_A_PAGE),
    ) -> Response:
        """Return lines of the trail beyond a number, oldest first, one JSON object each.

        A page that is full goes on after its last line's `seq`. The holder of a run's token sees
        the lines of that run; everything else is the operator's.
        """
        if asked.run:
            require_reader(parts, request.scope, asked.run)
        else:
            require_operator(parts, request.scope)
        wanted = wanted_of(parts, asked)
        rows = trail.after(after, wanted, limit=limit, now=parts.now())
        text = "".join(json.dumps(line(row), ensure_ascii=False) + "\n" for row in rows)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(text.encode(), media_type="application/x-ndjson", headers=headers)

    @router.get("/trail", include_in_schema=False)
    def page(
        request: Request,
        asked: Filters = filters,
        before: int | None = Query(None, ge=1, le=2**62),
    ) -> Response:
        def make() -> Response:
            wanted = wanted_of(parts, asked)
            rows = trail.newest(wanted, limit=ROWS_A_PAGE, before=before)
            return people.page(
                request,
                "trail.html",
                "trail",
                rows=rows,
                asked=vars(asked),
                verbs=list(DeedVerb),
                older=rows[-1].seq if len(rows) == ROWS_A_PAGE else None,
            )

        return people.for_operator(request, make)

    return router


def wanted_of(parts: Parts, asked: Filters) -> Wanted:
    """Return which rows are asked for. Raises: HttpRefusal (422) for what cannot be read."""
    verb = asked.verb
    if verb and verb not in _VERBS:
        known = ", ".join(sorted(_VERBS))
        raise HttpRefusal(422, f"verb: should be one of {known}. Write one of them.")
    return Wanted(
        repository_id=_repository_id(parts, asked.repository),
        run_id=asked.run or None,
        actor=asked.actor,
        verb=verb,
        since=_moment("since", asked.since),
        until=_moment("until", asked.until),
    )


def _repository_id(parts: Parts, text: str) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(int(text), 2**63 - 1)
    found = RepositoryStore(parts.database).id_of(text)
    if found is None:
        raise HttpRefusal(422, "repository: should be one this server knows. Write owner/name.")
    return found


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        told = f"{name}: should be a date or a moment. Write 2026-01-31 or 2026-01-31T12:00:00Z."
        raise HttpRefusal(422, told) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def line(row: TrailRow) -> dict[str, Any]:
    """Return one line as JSON."""
    deed: dict[str, Any] = encode(row.deed)
    del deed["once"]  # how it is kept once is the database's own matter
    return {"seq": row.seq, "at": encode(row.at), **encode(row.authority), **deed}
