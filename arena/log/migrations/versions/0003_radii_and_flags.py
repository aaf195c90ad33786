"""Radii of success, flagged clean images, and what queries were asked for whatever the log level."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("matches", sa.Column("radii", sa.JSON(), nullable=True))
    op.add_column("utilities", sa.Column("flagged", sa.Double(), nullable=True))
    op.create_table(
        "purposes",
        sa.Column("shard_id", ID, autoincrement=False, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("queries", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("flagged", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("shard_id", "purpose", name=op.f("pk_purposes")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO purposes SELECT shards.id, queries.purpose, COUNT(*),"
        " COUNT(CASE WHEN queries.refused THEN 1 END), COUNT(CASE WHEN queries.flagged THEN 1 END)"
        " FROM shards JOIN queries ON queries.game_id >= shards.first_game"
        " AND queries.game_id < shards.first_game + shards.games"
        " WHERE shards.level = 'queries' AND shards.state = 'finished' GROUP BY shards.id, queries.purpose"
    )


def downgrade() -> None:
    op.drop_table("purposes")
    op.drop_column("utilities", "flagged")
    op.drop_column("matches", "radii")
