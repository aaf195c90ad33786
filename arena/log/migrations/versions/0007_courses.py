"""How games went: alarms, duplicates, and what was gained late."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WHOLE = ("flagged", "alarm_at", "duplicates")
REAL = ("margin_first", "margin_late", "margin_best", "distance_first", "distance_late")
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
    for name in WHOLE:
        op.add_column("games", sa.Column(name, sa.BigInteger(), nullable=True))
    for name in REAL:
        op.add_column("games", sa.Column(name, sa.Double(), nullable=True))
    _create_views()


def downgrade() -> None:
    _drop_views()
    for name in (*reversed(REAL), *reversed(WHOLE)):
        op.drop_column("games", name)
    _create_views()


def _drop_views() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")


def _create_views() -> None:
    for name, statement in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {statement}")
