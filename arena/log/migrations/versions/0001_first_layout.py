"""The first layout."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _runs_and_matches()
    _shards_and_games()
    _rows()
    _views()


def _runs_and_matches() -> None:
    op.create_table(
        "runs",
        sa.Column("id", ID, nullable=False),
        sa.Column("scenario", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("started", sa.DateTime(), nullable=False),
        sa.Column("ended", sa.DateTime(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=True),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("resolved", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_fingerprint"), "runs", ["fingerprint"], unique=False)
    op.create_table(
        "matches",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("attacker", sa.Text(), nullable=False),
        sa.Column("attacker_params", sa.JSON(), nullable=False),
        sa.Column("defender", sa.Text(), nullable=False),
        sa.Column("defender_params", sa.JSON(), nullable=False),
        sa.Column("classifier", sa.Text(), nullable=False),
        sa.Column("classifier_sha", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("dataset_sha", sa.Text(), nullable=False),
        sa.Column("threat", sa.JSON(), nullable=False),
        sa.Column("knowledge", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("block", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("attacker_title", sa.Text(), nullable=False),
        sa.Column("defender_title", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("at", sa.JSON(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("classes", sa.Integer(), nullable=False),
        sa.Column("image_shape", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_matches")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_matches_run_id_number")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_matches_run_id")),
    )


def _shards_and_games() -> None:
    op.create_table(
        "shards",
        sa.Column("id", ID, nullable=False),
        sa.Column("match_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("first_game", sa.BigInteger(), nullable=False),
        sa.Column("games", sa.Integer(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("started", sa.DateTime(), nullable=False),
        sa.Column("ended", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shards")),
        sa.UniqueConstraint("match_id", "number", "repeat", name=op.f("uq_shards_match_id_number_repeat")),
        sa.ForeignKeyConstraint(["match_id"], ["matches.id"], name=op.f("fk_shards_match_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_shards_first_game"), "shards", ["first_game"], unique=False)
    op.create_table(
        "games",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("match_id", ID, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("image", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("target", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("queries", sa.BigInteger(), nullable=False),
        sa.Column("insider_queries", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("answered", sa.Boolean(), nullable=False),
        sa.Column("vote", sa.Double(), nullable=False),
        sa.Column("base", sa.Boolean(), nullable=False),
        sa.Column("hit_at", sa.Integer(), nullable=True),
        sa.Column("accepted_at", sa.Integer(), nullable=True),
        sa.Column("l2", sa.Double(), nullable=True),
        sa.Column("linf", sa.Double(), nullable=True),
        sa.Column("final", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["match_id"], ["matches.id"], name=op.f("fk_games_match_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_games")),
    )
    op.create_index(
        op.f("ix_games_match_id_repeat_shard"), "games", ["match_id", "repeat", "shard"], unique=False
    )


def _rows() -> None:
    op.create_table(
        "marks",
        sa.Column("game_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Boolean(), nullable=False),
        sa.Column("vote", sa.Double(), nullable=False),
        sa.Column("base", sa.Boolean(), nullable=False),
        sa.Column("l2", sa.Double(), nullable=True),
        sa.Column("linf", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("game_id", "at", name=op.f("pk_marks")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "queries",
        sa.Column("game_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("turn", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("l2", sa.Double(), nullable=True),
        sa.Column("linf", sa.Double(), nullable=True),
        sa.Column("hit", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("game_id", "turn", name=op.f("pk_queries")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "notes",
        sa.Column("game_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("game_id", "place", name=op.f("pk_notes")),
        sqlite_with_rowid=False,
    )


def _views() -> None:
    op.execute(
        "CREATE VIEW finished_games AS SELECT games.* FROM games"
        " JOIN shards ON shards.match_id = games.match_id"
        " AND shards.number = games.shard AND shards.repeat = games.repeat AND shards.state = 'finished'"
    )
    for table in ("marks", "queries", "notes"):
        op.execute(
            f"CREATE VIEW finished_{table} AS SELECT {table}.* FROM {table}"
            f" JOIN finished_games ON finished_games.id = {table}.game_id"
        )


def downgrade() -> None:
    for view in ("finished_notes", "finished_queries", "finished_marks", "finished_games"):
        op.execute(f"DROP VIEW {view}")
    for table in ("notes", "queries", "marks", "games", "shards", "matches", "runs"):
        op.drop_table(table)
