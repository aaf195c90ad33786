"""Runs migrations on the connection that `arena.log.database` hands over."""

from __future__ import annotations

from alembic import context

from arena.log.database import VERSION_TABLE
from arena.log.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
