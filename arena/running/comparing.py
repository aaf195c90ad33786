"""A shard as it was logged and as it was played again, compared row by row, or by verdict shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.log.shard_rows import TABLES, Columns
from arena.rules.outcome import Bools, Floats, Ints
from arena.statistics import sign_test

SAME_ANYWHERE = ("image", "label", "target")
"""Columns of `games` that no machine and no version changes: data and seeds alone decide them."""
SHARES = ("answered", "vote", "base")
"""The verdicts of which shares are compared between machines that do not promise the same bits."""
ALPHA = 0.01
"""The exact paired test of a verdict share rejects at this level: "beyond tolerance"."""


@dataclass(frozen=True)
class Difference:
    """Where a column of a table is not the same.

    Attributes:
        column: "rows" where rows are missing or too many.
        games: the places in the shard of the games it concerns, ascending.
        rows: how many rows differ.
        example: the first of them in words, as "game 3, turn 7: 0.25 in the log, 0.26 here".
    """

    table: str
    column: str
    games: tuple[int, ...]
    rows: int
    example: str

    def __str__(self) -> str:
        what = "row" if self.rows == 1 else "rows"
        return f"{self.table}.{self.column}: {self.rows:,} {what} differ; {self.example}"


@dataclass(frozen=True)
class ShareCheck:
    """A verdict's share in the log and here, over the same games.

    Attributes:
        games: how many; logged, here: the mean of the verdict over them.
        up, down: how many games stand higher in the log than here, or lower.
        p: of the exact paired test (sign test; for won and lost games, McNemar's) that neither is likelier.
    """

    verdict: str
    games: int
    logged: float
    here: float
    up: int
    down: int

    @property
    def p(self) -> float:
        return sign_test(self.up, self.down)

    @property
    def within(self) -> bool:
        """Whether the difference is within tolerance."""
        return self.p >= ALPHA

    def __add__(self, other: ShareCheck) -> ShareCheck:
        """The check over the games of both."""
        games = self.games + other.games
        mean = [
            (a * self.games + b * other.games) / max(games, 1)
            for a, b in ((self.logged, other.logged), (self.here, other.here))
        ]
        up, down = self.up + other.up, self.down + other.down
        return ShareCheck(self.verdict, games, mean[0], mean[1], up, down)

    def __str__(self) -> str:
        return (
            f"{self.verdict}: {self.logged:.3f} in the log, {self.here:.3f} here, over {self.games} games; "
            f"{self.up} stand higher in the log, {self.down} lower (p = {self.p:.2g})"
        )


@dataclass(frozen=True)
class Comparison:
    """What a shard's rows in a log have to do with those of another play of it.

    Attributes:
        rows: how many rows were compared, by table.
        differences: by table and column; none: all is equal, bit for bit.
        shares: the verdict shares of both.
    """

    rows: Mapping[str, int]
    differences: tuple[Difference, ...]
    shares: tuple[ShareCheck, ...]

    @property
    def equal(self) -> bool:
        """Whether all is the same, bit for bit (0 and -0 count as the same)."""
        return not self.differences

    @property
    def within(self) -> bool:
        """Whether it agrees as far as two kinds of machines must: the same games, and verdict shares that
        the exact paired test cannot tell apart at level ALPHA."""
        decided = any(d.table == "games" and d.column in (*SAME_ANYWHERE, "rows") for d in self.differences)
        return not decided and all(share.within for share in self.shares)

    @property
    def games(self) -> tuple[int, ...]:
        """The places in the shard of the games that differ anywhere."""
        return tuple(sorted({game for difference in self.differences for game in difference.games}))

    def of_game(self, place: int) -> list[Difference]:
        """The differences that concern a game."""
        return [difference for difference in self.differences if place in difference.games]


def compare(logged: Mapping[str, Columns], here: Mapping[str, Columns]) -> Comparison:
    """Compare a shard's rows as `arena.log.shard_rows.rows_of` gives them."""
    found = [d for table in TABLES for d in _differences(table, logged[table], here[table])]
    rows = {table: _length(logged[table]) for table in TABLES}
    return Comparison(rows, tuple(found), tuple(_shares(logged["games"], here["games"])))


def _differences(table: str, logged: Columns, here: Columns) -> Iterator[Difference]:
    key = {
        "games": ("game",),
        "queries": ("game", "turn"),
        "marks": ("game", "at"),
        "notes": ("game", "place"),
    }
    keys = key.get(table, ("purpose",))
    alike = _length(logged) == _length(here)
    if not (alike and all(_same(logged[name], here[name]).all() for name in keys)):
        yield _rows_differ(table, keys, logged, here)
        return
    for column in logged:
        differ = np.flatnonzero(~_same(logged[column], here[column]))
        if len(differ):
            first = int(differ[0])
            where = ", ".join(f"{name} {_word(logged[name][first])}" for name in keys)
            one, other = (_word(side[column][first]) for side in (logged, here))
            example = f"{where}: {one} in the log, {other} here"
            if one == other:
                example = f"{where}: not the same in the log and here"
            yield Difference(table, column, _games(logged, differ), len(differ), example)


def _rows_differ(table: str, keys: Sequence[str], logged: Columns, here: Columns) -> Difference:
    """Rows that only one of both has."""
    sides = [set(zip(*(side[name].tolist() for name in keys), strict=True)) for side in (logged, here)]
    only = sorted(sides[0] ^ sides[1])
    games = {int(row[0]) for row in only if keys[0] == "game"}
    there = sum(row in sides[0] for row in only)
    doubled = max(_length(logged) - len(sides[0]), 0)
    example = f"{there + doubled:,} are in the log alone, {len(only) - there:,} here alone"
    return Difference(table, "rows", tuple(sorted(games)), len(only) + doubled, example)


def _same(one: NDArray[Any], other: NDArray[Any]) -> Bools:
    """[n] which values are equal; missing ones are equal to each other."""
    if one.dtype == object:
        return np.array([np.array_equal(a, b) for a, b in zip(one, other, strict=True)], np.bool_)
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)), np.bool_)


def _games(columns: Columns, rows: Ints) -> tuple[int, ...]:
    if "game" not in columns:
        return ()
    return tuple(np.unique(columns["game"][rows]).astype(int).tolist())


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _word(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "an image"
    if isinstance(value, float):
        return "none" if np.isnan(value) else f"{value:.9g}"
    return repr(value)[:100]


def _shares(logged: Columns, here: Columns) -> Iterator[ShareCheck]:
    """Of the games that both have, by their places."""
    _, mine, yours = np.intersect1d(logged["game"], here["game"], return_indices=True)
    for verdict in SHARES:
        one: Floats = logged[verdict][mine]
        other: Floats = here[verdict][yours]
        means = [float(values.mean()) if len(values) else 0.0 for values in (one, other)]
        up, down = (int(np.count_nonzero(higher)) for higher in (one > other, one < other))
        yield ShareCheck(verdict, len(one), means[0], means[1], up, down)
