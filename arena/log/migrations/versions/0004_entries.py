"""Runs share the matches that are the same; utilities on several numbers of images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("run_id", ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("match_id", ID, nullable=False),
        sa.Column("block", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("attacker_title", sa.Text(), nullable=False),
        sa.Column("defender_title", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("radii", sa.JSON(), nullable=False),
        sa.Column("utility", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_entries")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_entries_run_id")),
        sa.ForeignKeyConstraint(["match_id"], ["matches.id"], name=op.f("fk_entries_match_id")),
    )
    op.create_index(op.f("ix_entries_match_id"), "entries", ["match_id"], unique=False)
    op.create_index(op.f("ix_matches_fingerprint"), "matches", ["fingerprint"], unique=False)
    op.execute(
        "INSERT INTO entries SELECT m.run_id, m.number, m.id, m.block, m.title, m.attacker_title,"
        " m.defender_title, m.verdict, COALESCE(m.radii, '[]'), COALESCE(u.images, 0)"
        " FROM matches m LEFT JOIN utilities u ON u.match_id = m.id"
    )
    _key_of_utilities("match_id", "images")


def downgrade() -> None:
    op.execute(
        "DELETE FROM utilities WHERE images < (SELECT max(u.images) FROM utilities u"
        " WHERE u.match_id = utilities.match_id)"
    )
    _key_of_utilities("match_id")
    op.drop_index(op.f("ix_matches_fingerprint"), "matches")
    op.drop_table("entries")


def _key_of_utilities(*columns: str) -> None:
    with op.batch_alter_table("utilities") as batch:
        batch.drop_constraint(op.f("pk_utilities"), type_="primary")
        batch.create_primary_key(op.f("pk_utilities"), list(columns))
