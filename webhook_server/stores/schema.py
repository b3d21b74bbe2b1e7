"""Bring a database to the schema that this server knows, or refuse it."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    inspect,
    select,
)

from cynthus.errors import UserError
from webhook_server.stores.engines import unhurried
from webhook_server.stores.tables import metadata, server_state

log = logging.getLogger(__name__)

HEAD = "0001"  # the newest file in migrations/versions; a test keeps it true
# The oldest servers, by their HEAD, that can work on the tables of HEAD: docs/decisions/0017. A
# migration that only adds leaves it; one that takes away what older servers use raises it.
OLDEST = "0001"
_OLDEST_KEY = "schema_oldest"  # server_state: OLDEST of the server that migrated last
# Any number that no other program uses: replicas that start together take turns.
_MIGRATION_LOCK = 0x6379_6E74_6875_7301

# Alembic's own table, declared here so that a start without migrations need not import it.
_stamp = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), primary_key=True),
)


def migrate(connection: Connection) -> None:
    """Make an empty database's tables, or bring an older one to `HEAD`, in one transaction.

    A newer one is left as it is, if its maker says that servers like this one can work on it.
    Safe to repeat. Raises: UserError, when it says that they cannot, or when the tables are
    another program's.
    """
    if _is_usable(connection, _revision(connection)):
        return
    with unhurried(connection):
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        found = _revision(connection)  # another replica may have been first
        if found is None:
            _create(connection)
        elif not _is_usable(connection, found):
            _upgrade(connection)


def is_newer(connection: Connection) -> bool:
    """Say whether a newer server has migrated the database since: its rows may say more."""
    found: str = connection.execute(select(_stamp.c.version_num)).scalar_one()
    return found > HEAD


def _is_usable(connection: Connection, found: str | None) -> bool:
    """Say whether nothing has to be done. Raises: UserError."""
    if found is None or found < HEAD:  # four digits: they are in the order of their letters
        return False
    if found == HEAD:
        return True
    oldest = connection.execute(
        select(server_state.c.value).where(server_state.c.key == _OLDEST_KEY)
    ).scalar_one_or_none()
    if oldest is None or oldest > HEAD:
        raise UserError(
            f"database: should be at version {HEAD}, or at a newer one that servers of {HEAD} can"
            f" work on, found {found!r}, made by a newer server. Start that version of Cynthus,"
            " or restore the backup made before it."
        )
    log.warning("database is newer than this server version=%s own=%s", found, HEAD)
    return True


def _revision(connection: Connection) -> str | None:
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        return connection.execute(select(_stamp.c.version_num)).scalar_one_or_none()
    if "runs" in tables:
        raise UserError(
            "database: should be empty or one of Cynthus, found tables without a version."
            " Give Cynthus a database of its own."
        )
    return None


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    _stamp.create(connection, checkfirst=True)
    connection.execute(insert(_stamp).values(version_num=HEAD))
    _note_oldest(connection)


def _note_oldest(connection: Connection) -> None:
    connection.execute(delete(server_state).where(server_state.c.key == _OLDEST_KEY))
    if OLDEST < HEAD:  # no word means: servers of this version and newer ones
        connection.execute(insert(server_state).values(key=_OLDEST_KEY, value=OLDEST))


def _upgrade(connection: Connection) -> None:
    # Alembic takes longer to import than the whole server to start: only for an older database.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    _note_oldest(connection)
