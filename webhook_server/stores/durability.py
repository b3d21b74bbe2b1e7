"""Say what a database's word is worth: its version, and whether what it took survives a cut."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from webhook_server.stores.database import Database

# https://sqlite.org/pragma.html#pragma_synchronous
_SYNCHRONOUS = {0: "off", 1: "normal", 2: "full", 3: "extra"}
_FULL = 2


@dataclass(frozen=True, kw_only=True)
class Durability:
    """How safe an acknowledged write is."""

    engine: str
    version: str  # of our tables
    how: str
    durable: bool


def durability(database: Database) -> Durability:
    """Ask the connection that writes. Raises: DatabaseUnavailable."""
    return database.write(_asked)


def _asked(connection: Connection) -> Durability:
    version = str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
    if connection.dialect.name == "sqlite":
        level = int(connection.execute(text("PRAGMA synchronous")).scalar_one())
        how = f"synchronous={_SYNCHRONOUS.get(level, level)}"
        return Durability(engine="SQLite", version=version, how=how, durable=level >= _FULL)
    # https://www.postgresql.org/docs/current/runtime-config-wal.html
    fsync = str(connection.execute(text("SHOW fsync")).scalar_one())
    commit = str(connection.execute(text("SHOW synchronous_commit")).scalar_one())
    return Durability(
        engine="PostgreSQL",
        version=version,
        how=f"fsync={fsync}, synchronous_commit={commit}",
        durable=fsync == "on" and commit != "off",
    )
