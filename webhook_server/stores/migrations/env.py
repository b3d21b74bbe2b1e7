"""Tell Alembic which connection to migrate: the one that the server is holding."""

from __future__ import annotations

from alembic import context

from webhook_server.stores.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can, since `engines` begins its transactions itself
    render_as_batch=True,  # SQLite changes columns by copying: https://alembic.sqlalchemy.org/en/latest/batch.html
)
context.run_migrations()
