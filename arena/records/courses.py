"""How the games of a shard went, summed up while they are played, so that no question of it needs their
queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.records.reports import CourseRows, QueryRows
from arena.rules.outcome import Bools, Floats, Ints
from arena.rules.threat import TOLERANCE, Threat

LATE = 0.9
"""What an attack gains after this share of its budget tells whether it had converged."""
MOST_DIGESTS = 2**22
"""Of a shard with more queries than this, duplicates are not counted."""
_ROWS, _VOLLEYS = 100_000, 2_000
"""Rows and volleys that wait to be summed up, together."""


class Courses:
    """Sums up a shard's queries; hears all of them, in order, whatever is logged of them."""

    def __init__(self, threat: Threat) -> None:
        self._threat, self._late = threat, int(LATE * threat.budget)
        self._waiting: list[QueryRows] = []
        self._rows = self._seen = 0
        self._images: list[NDArray[np.int64]] | None = []
        self._flagged = np.zeros(0, np.int64)
        self._alarm_at = np.zeros(0, np.int64)
        self._known = np.zeros((5, 0))

    def add(self, rows: QueryRows) -> None:
        """Hear a volley."""
        if len(rows):
            self._waiting.append(rows)
            self._rows += len(rows)
            if self._rows >= _ROWS or len(self._waiting) >= _VOLLEYS:
                self._sum_up()

    def close(self, games: int) -> CourseRows:
        """How all of the shard's games went, by their places."""
        self._sum_up()
        self._grow(games)
        return CourseRows(self._flagged, self._alarm_at, self._duplicates(games), *self._known)

    def _sum_up(self) -> None:
        if not self._waiting:
            return
        rows, self._waiting, self._rows = self._waiting, [], 0
        game, turn = _joined(rows, "game"), _joined(rows, "turn")
        refused, flagged, hit = (_joined(rows, name) for name in ("refused", "flagged", "hit"))
        self._grow(int(game.max()) + 1)
        self._keep(game, [row.digest for row in rows])
        self._flagged += np.bincount(game[flagged], minlength=len(self._flagged))
        self._raise_alarms(game, turn, refused | flagged)
        far = _joined(rows, self._threat.norm)
        answered = ~refused & (_joined(rows, "label") >= 0)
        inside = answered & (far <= self._threat.epsilon + TOLERANCE)
        first, late, best, near, near_late = self._known
        margin, early = _joined(rows, "margin"), turn <= self._late
        _enter_first(first, game, turn, margin, turn == 1)
        _lower(late, game, margin, inside & early)
        _lower(best, game, margin, inside)
        _enter_first(near, game, turn, far, hit)
        _lower(near_late, game, far, hit & early)

    def _grow(self, games: int) -> None:
        more = games - len(self._flagged)
        if more > 0:
            self._flagged = np.append(self._flagged, np.zeros(more, np.int64))
            self._alarm_at = np.append(self._alarm_at, np.zeros(more, np.int64))
            self._known = np.append(self._known, np.full((5, more), np.nan), axis=1)

    def _raise_alarms(self, game: Ints, turn: Ints, alarm: Bools) -> None:
        first = np.full(len(self._alarm_at), np.iinfo(np.int64).max)
        np.minimum.at(first, game[alarm], turn[alarm])
        new = (self._alarm_at == 0) & (first < np.iinfo(np.int64).max)
        self._alarm_at[new] = first[new]

    def _keep(self, game: Ints, digests: Sequence[Ints | None]) -> None:
        self._seen += len(game)
        known = [digest for digest in digests if digest is not None]
        if self._images is None or len(known) < len(digests) or self._seen > MOST_DIGESTS:
            self._images = None
            return
        self._images.append(np.stack([game, np.concatenate(known)]))

    def _duplicates(self, games: int) -> Floats:
        if self._images is None:
            return np.full(games, np.nan)
        if not self._images:
            return np.zeros(games)
        game, digest = np.concatenate(self._images, axis=1)
        order = np.lexsort((digest, game))
        game, digest = game[order], digest[order]
        again = (game[1:] == game[:-1]) & (digest[1:] == digest[:-1])
        return np.bincount(game[1:][again], minlength=games).astype(np.float64)


def _joined(rows: Sequence[QueryRows], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(row, name) for row in rows])


def _enter_first(known: Floats, game: Ints, turn: Ints, value: Floats, among: Bools) -> None:
    """Each game's value at its lowest turn among the rows, unless it has one."""
    rows = np.flatnonzero(among & np.isnan(known[game]))
    rows = rows[np.argsort(turn[rows], kind="stable")[::-1]]
    known[game[rows]] = value[rows]  # of several the last stays


def _lower(known: Floats, game: Ints, value: Floats, among: Bools) -> None:
    """Each game's lowest value so far."""
    rows = np.flatnonzero(among & ~np.isnan(value))
    np.fmin.at(known, game[rows], value[rows])
