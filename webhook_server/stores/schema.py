"""Bring a database to the schema that this server knows, or refuse it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, func, insert, inspect, select

from cynthus.errors import UserError
from webhook_server.stores.tables import metadata

HEAD = "0001"  # the newest file in migrations/versions; a test keeps it true
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

    Safe to repeat. Raises: UserError, when a newer server (or another program) made the tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    found = _revision(connection)
    if found == HEAD:
        return
    if found is None:
        _create(connection)
        return
    _upgrade(connection, found)


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


def _upgrade(connection: Connection, found: str) -> None:
    # Alembic takes longer to import than the whole server to start: only for an older database.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        raise UserError(
            f"database: should be at version {HEAD} or older, found {found!r}, made by a newer"
            " server. Start that version of Cynthus, or restore the backup made before it."
        )
    command.upgrade(config, "head")
