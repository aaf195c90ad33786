"""The margin of the hardened classifier alone, beside the defended one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

VIEWS = {
    "finished_games": (
        "SELECT games.* FROM games"
        " JOIN shards ON shards.match_id = games.match_id"
        " AND shards.number = games.shard AND shards.repeat = games.repeat AND shards.state = 'finished'"
    ),
    **{
        f"finished_{table}": (
            f"SELECT {table}.* FROM {table} JOIN finished_games ON finished_games.id = {table}.game_id"
        )
        for table in ("marks", "queries", "notes")
    },
}


def upgrade() -> None:
    _drop_views()
    op.add_column("queries", sa.Column("margin_base", sa.Double(), nullable=True))
    _create_views()


def downgrade() -> None:
    _drop_views()
    op.drop_column("queries", "margin_base")
    _create_views()


def _drop_views() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")


def _create_views() -> None:
    for name, statement in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {statement}")
