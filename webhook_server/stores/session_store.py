"""Remember who is signed in to the dashboard; any replica can tell."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from webhook_server.acting import authority
from webhook_server.auth.tokens import sha256_hex
from webhook_server.runs.trail import Deed, DeedVerb
from webhook_server.stores import trail_store
from webhook_server.stores.database import Database
from webhook_server.stores.tables import server_state

LIFE = timedelta(hours=12)  # a working day; the token is typed once in the morning
_PREFIX = "session/"
_KEY_CHARACTERS = 40  # of the digest: with the prefix it fits the column, 160 bits cannot collide


class SessionStore:
    """Sessions by the digest of their id, bound to the operator's token that opened them."""

    def __init__(self, database: Database, *, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def open(self, api_token: str) -> str:
        """Return the id of a new session; it ends with its life or when the token changes."""
        session = secrets.token_urlsafe(32)
        ends_at = (self._now() + LIFE).isoformat()
        value = f"{ends_at} {sha256_hex(api_token)}"
        by = authority()

        def work(connection: Connection) -> None:
            connection.execute(insert(server_state).values(key=_key(session), value=value))
            trail_store.add(connection, by, [_deed(DeedVerb.SIGN_IN, session)], self._now())
            self._prune(connection)

        self._database.write(work)
        return session

    def good(self, session: str, api_token: str) -> bool:
        """Return whether this session is open now."""
        value = self._database.state(_key(session)) if session else None
        if value is None:
            return False
        ends_at, _, token_digest = value.partition(" ")
        return datetime.fromisoformat(ends_at) > self._now() and token_digest == sha256_hex(
            api_token
        )

    def close(self, session: str) -> None:
        """End a session. Safe to repeat."""
        query = delete(server_state).where(server_state.c.key == _key(session))
        by = authority()

        def work(connection: Connection) -> None:
            if connection.execute(query).rowcount:
                trail_store.add(connection, by, [_deed(DeedVerb.SIGN_OUT, session)], self._now())

        self._database.write(work)

    def _prune(self, connection: Connection) -> None:
        ours = server_state.c.key.startswith(_PREFIX)
        past = server_state.c.value < self._now().isoformat()  # ISO 8601 in UTC sorts by time
        for key in connection.scalars(select(server_state.c.key).where(ours, past)).all():
            connection.execute(delete(server_state).where(server_state.c.key == key))


def _deed(verb: DeedVerb, session: str) -> Deed:
    # A part of the digest: it tells sessions apart, and opens none.
    return Deed(verb=verb, subject=f"session {_key(session).removeprefix(_PREFIX)[:12]}")


def _key(session: str) -> str:
    return _PREFIX + sha256_hex(session)[:_KEY_CHARACTERS]
