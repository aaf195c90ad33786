"""How far the query at a mark went, and what defended classifiers see and compute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MARKS = "SELECT marks.* FROM marks JOIN finished_games ON finished_games.id = marks.game_id"
WORTH = ("input_l2", "multiply_adds")


def upgrade() -> None:
    op.execute("DROP VIEW finished_marks")
    op.add_column("marks", sa.Column("query_l2", sa.Double(), nullable=True))
    for name in WORTH:
        op.add_column("utilities", sa.Column(name, sa.Double(), nullable=True))
    op.execute(f"CREATE VIEW finished_marks AS {MARKS}")


def downgrade() -> None:
    op.execute("DROP VIEW finished_marks")
    for name in reversed(WORTH):
        op.drop_column("utilities", name)
    op.drop_column("marks", "query_l2")
    op.execute(f"CREATE VIEW finished_marks AS {MARKS}")
