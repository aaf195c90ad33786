"""What defended classifiers are worth on clean images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
RATES = ("accuracy", "low", "high", "declined", "refused", "agreement")
COSTS = ("cost_1", "cost_1_low", "cost_1_high", "cost_batch", "cost_batch_low", "cost_batch_high")


def upgrade() -> None:
    op.create_table(
        "utilities",
        sa.Column("match_id", ID, autoincrement=False, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in RATES),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("ece", "ece_mass", "nll")),
        sa.Column("batch", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.Double(), nullable=True) for name in COSTS),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("seconds_1", "seconds_batch")),
        sa.Column("peak_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("match_id", name=op.f("pk_utilities")),
        sa.ForeignKeyConstraint(["match_id"], ["matches.id"], name=op.f("fk_utilities_match_id")),
    )


def downgrade() -> None:
    op.drop_table("utilities")
