"""What benign clients lost to defended classifiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
QUERIES = ("queries", "refused", "flagged", "banned", "declined")
SESSIONS = ("refused", "flagged", "banned", "altered", "lost")
DELAY = ("delay", "delay_low", "delay_high")


def upgrade() -> None:
    op.create_table(
        "benign",
        sa.Column("match_id", ID, autoincrement=False, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("history", sa.Text(), nullable=False),
        sa.Column("sessions", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("draws", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in QUERIES),
        sa.Column("altered", sa.Double(), nullable=False),
        *(sa.Column(f"sessions_{name}", sa.Integer(), nullable=False) for name in SESSIONS),
        *(sa.Column(name, sa.Double(), nullable=True) for name in DELAY),
        sa.PrimaryKeyConstraint("match_id", "client", "history", "sessions", "draws", name=op.f("pk_benign")),
        sa.ForeignKeyConstraint(["match_id"], ["matches.id"], name=op.f("fk_benign_match_id")),
    )
    op.add_column("entries", sa.Column("benign", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("entries", "benign")
    op.drop_table("benign")
