"""The reports of consecutive shards, or on one query count, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from arena.records.reports import GameRows, MarkRows


def join_games(parts: Sequence[GameRows]) -> GameRows:
    """The games of consecutive shards, with `game` counted over the match, in its order."""
    columns = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts])
        for f in fields(GameRows)
        if f.name != "reason"
    }
    reason = [r for p in parts for r in p.reason]
    order = np.argsort(columns["game"], kind="stable")
    return GameRows(
        reason=[reason[i] for i in order.tolist()],
        **{name: column[order] for name, column in columns.items()},
    )


def join_marks(parts: Sequence[MarkRows], games: int) -> MarkRows:
    """Verdicts at one query count, received piece by piece with `game` counted over the match, in its
    order."""
    columns = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts])
        for f in fields(MarkRows)
        if f.name != "at"
    }
    order = np.argsort(columns["game"], kind="stable")
    assert len(order) == games
    return MarkRows(parts[0].at, **{name: column[order] for name, column in columns.items()})
