"""Probabilities and accuracy along clean images, in bins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("utilities", sa.Column("reliability", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("utilities", "reliability")
