"""Runs migrations on the connection that `arena.log.database` hands over."""

from __future__ import annotations

from alembic import context

from arena.log.database import VERSION_TABLE
from arena.log.schema import metadata, of_dialect

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    include_object=of_dialect(connection.dialect.name),
)
with context.begin_transaction():
    context.run_migrations()
