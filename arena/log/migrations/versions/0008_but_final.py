"""On SQLite, an index with all of a game but its final image, so that no question of games reads images."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PLACE = ["match_id", "repeat", "shard"]
BUT_FINAL = [
    *(
        "id",
        "image",
        "label",
        "target",
        "reason",
        "queries",
        "insider_queries",
        "refused",
        "answered",
        "vote",
    ),
    *("base", "hit_at", "accepted_at", "l2", "linf", "wrong_a", "asked_a", "wrong_b", "asked_b", "again"),
    *("flagged", "alarm_at", "duplicates", "margin_first", "margin_late", "margin_best"),
    *("distance_first", "distance_late"),
]


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.drop_index("ix_games_match_id_repeat_shard", "games")
        op.create_index("ix_games_but_final", "games", PLACE + BUT_FINAL)


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.drop_index("ix_games_but_final", "games")
        op.create_index("ix_games_match_id_repeat_shard", "games", PLACE)
