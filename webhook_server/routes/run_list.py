"""Answer the list of runs from one indexed table: plain ASGI, prepared JSON."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from datetime import datetime, timedelta
from urllib.parse import parse_qs

from cynthus.codec import encode
from cynthus.errors import Transient
from webhook_server.routes.access import require_operator, session_of
from webhook_server.routes.answers import Door, HttpRefusal, Receive, Scope, Send, answer
from webhook_server.routes.parts import Parts
from webhook_server.runs.model import State
from webhook_server.stores.run_reading import RunRow
from webhook_server.stores.tally import open_runs

MOST_ROWS = 200
_ROWS = 50
_KEPT = 64  # different questions: a dashboard asks one, a script pages through some
# Another replica's changes ring no bell here: a list lags behind them by this much at most.
_FRESH = timedelta(milliseconds=250)

_Question = tuple[int | None, int, int | None]
_Prepared = tuple[int, datetime, bytes]


class RunLists:
    """Lists of runs, as JSON text, kept while nothing changes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._prepared: OrderedDict[_Question, _Prepared] = OrderedDict()

    def fresh(self, question: _Question) -> bytes | None:
        """Return the answer when it is known already."""
        found = self._prepared.get(question)
        if found is None:
            return None
        rings, made_at, body = found
        still = rings == self._rings() and self._parts.now() - made_at < _FRESH
        return body if still else None

    def read(self, question: _Question) -> bytes:
        """Return the answer from the database."""
        rings, made_at = self._rings(), self._parts.now()
        repository_id, limit, before = question
        rows = self._parts.runs.list(repository_id=repository_id, limit=limit, before=before)
        body = list_json(rows, open_runs(self._parts.database))
        self._prepared[question] = (rings, made_at, body)
        while len(self._prepared) > _KEPT:
            self._prepared.popitem(last=False)
        return body

    def _rings(self) -> int:
        bell = self._parts.bell  # news of agents rings one, every saved change the other
        return bell.count("runs") + bell.count("publications")


def list_json(rows: list[RunRow], open_by_state: dict[State, int]) -> bytes:
    """Return rows as the API spells them, with how many runs are open beside them."""
    value = {"runs": [encode(row) for row in rows], "open": open_by_state}
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def list_door(parts: Parts) -> Door:
    """Return the door GET /api/v1/runs."""
    lists = RunLists(parts)

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        del receive  # a GET has no body
        if session_of(scope):
            await asyncio.to_thread(require_operator, parts, scope)
        else:
            require_operator(parts, scope)
        question = _question(scope)
        body = lists.fresh(question)
        if body is None:
            body = await _read(lists, question)
        await answer(send, 200, body, [(b"content-type", b"application/json")])

    return door


async def _read(lists: RunLists, question: _Question) -> bytes:
    try:
        return await asyncio.to_thread(lists.read, question)
    except Transient as error:
        raise HttpRefusal(503, str(error), retry_after_s=1) from error


def _question(scope: Scope) -> _Question:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    limit = _number(query, "limit")
    if limit is not None and not 1 <= limit <= MOST_ROWS:
        raise HttpRefusal(422, f"limit: should be from 1 to {MOST_ROWS}, found {limit}. Ask so.")
    return _number(query, "repository_id"), limit or _ROWS, _number(query, "before")


def _number(query: dict[str, list[str]], name: str) -> int | None:
    text = query.get(name, [""])[0]
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:  # noqa: PLR2004 - BIGINT
        raise HttpRefusal(422, f"{name}: should be a whole number. Write digits only.")
    return int(text)
