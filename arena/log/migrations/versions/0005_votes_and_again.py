"""Votes in halves, what who asks again gets, answers outside the ball, and whether answers are facts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

VOTES = ("wrong_a", "asked_a", "wrong_b", "asked_b")
VIEWS = {
    "finished_games": (
        "SELECT games.* FROM games"
        " JOIN shards ON shards.match_id = games.match_id"
        " AND shards.number = games.shard AND shards.repeat = games.repeat AND shards.state = 'finished'"
    ),
    "finished_marks": ("SELECT marks.* FROM marks JOIN finished_games ON finished_games.id = marks.game_id"),
    "finished_queries": (
        "SELECT queries.* FROM queries JOIN finished_games ON finished_games.id = queries.game_id"
    ),
    "finished_notes": ("SELECT notes.* FROM notes JOIN finished_games ON finished_games.id = notes.game_id"),
}


def upgrade() -> None:
    _drop_views()
    for table in ("games", "marks"):
        for name in VOTES:
            op.add_column(table, sa.Column(name, sa.Integer(), nullable=True))
        op.add_column(table, sa.Column("again", sa.Boolean(), nullable=True))
    for name in ("hits", "outside"):
        op.add_column("purposes", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("matches", sa.Column("answers_are_facts", sa.Boolean(), nullable=True))
    # Where answers are facts, all fresh ones agree, and what was answered wins its vote, unless the attacker
    # handed in something else.
    op.execute(
        "UPDATE matches SET answers_are_facts = NOT EXISTS (SELECT 1 FROM games WHERE"
        " games.match_id = matches.id AND games.reason <> 'clean' AND (games.vote NOT IN (0, 1)"
        " OR games.reason <> 'submitted' AND games.vote <> (CASE WHEN games.answered THEN 1 ELSE 0 END)))"
    )
    _create_views()


def downgrade() -> None:
    _drop_views()
    op.drop_column("matches", "answers_are_facts")
    for name in ("outside", "hits"):
        op.drop_column("purposes", name)
    for table in ("marks", "games"):
        for name in ("again", *reversed(VOTES)):
            op.drop_column(table, name)
    _create_views()


def _drop_views() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")


def _create_views() -> None:
    for name, statement in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {statement}")
