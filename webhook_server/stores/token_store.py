"""Remember which OIDC tokens were used, since each may be used once."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete

from webhook_server.stores.database import Database, insert_once
from webhook_server.stores.tables import used_tokens


class TokenStore:
    """Reads and writes the table `used_tokens`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def use(self, jti: str, expires_at: datetime) -> bool:
        """Use up the token; False: it was used before. Not safe to repeat, and meant so."""
        return self._db.write(lambda connection: use(connection, jti, expires_at))

    def prune(self, now: datetime) -> int:
        """Forget tokens that have expired and cannot be used anyway. Safe to repeat."""
        statement = delete(used_tokens).where(used_tokens.c.expires_at < now)
        return self._db.write(lambda connection: connection.execute(statement).rowcount)


def use(connection: Connection, jti: str, expires_at: datetime) -> bool:
    """Use up the token within a larger transaction; False: it was used before."""
    return insert_once(connection, used_tokens, {"jti": jti, "expires_at": expires_at})
