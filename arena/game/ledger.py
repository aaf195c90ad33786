"""The host's books of a shard: budgets, hits, bests and ends, from the scalars that leave the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arena.rules.outcome import Bools, Floats, Ints, Reason
from arena.rules.threat import TOLERANCE, Threat


@dataclass(frozen=True)
class RowScalars:
    """The scalars of a volley's rows, [n] each.

    Attributes:
        rank: how many earlier rows of the volley are of the same game.
        wins: the label wins the game.
        digest: of the images (`rules.geometry.digests`); margin_base: of the hardened classifier alone; None:
            not asked for.
    """

    game: Ints
    rank: Ints
    account: Ints
    label: Ints
    margin: Floats
    l2: Floats
    linf: Floats
    wins: Bools
    refused: Bools
    flagged: Bools
    banned: Bools
    digest: Ints | None = None
    margin_base: Floats | None = None


@dataclass(frozen=True)
class Segment:
    """Part of a volley up to a mark: rows that became the bests of their games, then the games due there.

    Attributes:
        rows: [m] the rows of the volley; game [m] their games, each once; the others describe them, [m] each.
        value: by what bests are compared; the lowest is the best.
        mark: the query count to report after these rows; None where no game passes one.
        due: [k] the games that pass it, each once; due_l2 [k] the l2 distances of their queries there.
    """

    rows: Ints
    game: Ints
    turn: Ints
    hit: Bools
    inside: Bools
    value: Floats
    l2: Floats
    linf: Floats
    mark: int | None
    due: Ints
    due_l2: Floats


@dataclass(frozen=True)
class Ruling:
    """What the books say of a volley, [n] each but `segments`.

    Attributes:
        kept: charged: of a game that was open, within its budget, not after its end.
        labelled: every row got a label.
        outside: answered with a winning label, but outside the ball.
        better: the row became its game's best when it came, in row order.
        segments: in order; `Ledger.settle` enters the bests of each.
    """

    kept: Bools
    hit: Bools
    outside: Bools
    refused: Bools
    turn: Ints
    labelled: bool
    better: Bools
    segments: list[Segment]


class Ledger:
    """Books of G games under a threat. `at` are the query counts to report, ascending, without 0."""

    def __init__(self, threat: Threat, games: int, at: Sequence[int] = ()) -> None:
        self.threat = threat
        self.at = np.asarray([*at, np.iinfo(np.int64).max], dtype=np.int64)
        self.is_open = np.zeros(games, dtype=bool)
        self.reason: list[Reason | None] = [None] * games
        self.queries = np.zeros(games, dtype=np.int64)
        self.refused = np.zeros(games, dtype=np.int64)
        self.insider = np.zeros(games, dtype=np.int64)
        self.notes = np.zeros(games, dtype=np.int64)
        self.hit_at = np.zeros(games, dtype=np.int64)
        self.accepted_at = np.zeros(games, dtype=np.int64)
        self.volley = 0
        self._asked_in = np.zeros(games, dtype=np.int64)
        self._hit_in = np.zeros(games, dtype=np.int64)
        self._due = np.full(games, self.at[0])
        """The next of `at` that each game comes to."""
        self.banned = np.zeros((games, threat.accounts), dtype=bool)
        self._has_banned = False
        self.last_account = np.zeros(games, dtype=np.int64)
        """The account that each game's last query came from."""
        self.chosen = np.zeros(games, dtype=bool)
        self.best_hit = np.zeros(games, dtype=bool)
        self.best_value = np.full(games, np.inf)
        self.best_turn = np.zeros(games, dtype=np.int64)
        self.best_inside = np.ones(games, dtype=bool)
        self.best_l2 = np.zeros(games)
        self.best_linf = np.zeros(games)
        self.last_l2 = np.full(games, np.nan)
        """The l2 distance of each game's last query."""

    @property
    def last_hit(self) -> Bools:
        """[G] whether a hit was among the game's rows of the last volley in which it had any."""
        return np.asarray((self._hit_in == self._asked_in) & (self._asked_in > 0))

    def begin_volley(self) -> None:
        """What is entered from now on belongs to another volley."""
        self.volley += 1

    @property
    def left(self) -> Ints:
        """[G] queries left."""
        return self.threat.budget - self.queries

    def reset(self, games: Ints) -> None:
        """Open new books for `games`."""
        for zeroed in (
            self.queries,
            self.refused,
            self.insider,
            self.notes,
            self.hit_at,
            self.accepted_at,
            self.last_account,
            self._asked_in,
            self._hit_in,
            self.best_turn,
            self.best_l2,
            self.best_linf,
        ):
            zeroed[games] = 0
        for lowered in (self.banned, self.chosen, self.best_hit):
            lowered[games] = False
        self._due[games] = self.at[0]
        self.last_l2[games] = np.nan
        self.best_value[games] = np.inf
        self.best_inside[games] = True
        self.is_open[games] = True
        for game in games.tolist():
            self.reason[game] = None

    def close(self, games: Ints, reason: Reason) -> Ints:
        """End those of `games` that are open; returns them."""
        ended: Ints = games[self.is_open[games]]
        self.is_open[ended] = False
        for game in ended.tolist():
            self.reason[game] = reason
        return ended

    def inside(self, l2: Floats, linf: Floats) -> Bools:
        """[n] whether images at these distances lie in the ball."""
        return np.asarray((l2 if self.threat.norm == "l2" else linf) <= self.threat.epsilon + TOLERANCE)

    def enter(self, c: RowScalars) -> Ruling:
        """Charge a volley's rows in order and enter what they brought."""
        before = self.queries[c.game]
        granted = self.is_open[c.game] & (c.rank < self.threat.budget - before)
        refused = c.refused | c.banned
        if self._has_banned:
            refused |= self.banned[c.game, c.account]
        answered = granted & ~refused
        inside = self.inside(c.l2, c.linf)
        hit = answered & inside & c.wins
        ban = granted & c.banned
        last = self._last_account(c, ban)
        ends = hit | last if self.threat.objective == "first" else last
        singly = not c.rank.any()
        kept = granted
        if not singly and ends.any():
            kept = granted & self._not_after_end(c, ends)
            answered, hit, ban = answered & kept, hit & kept, ban & kept
        turn = before + c.rank + 1
        self._charge(c, kept, refused, ban, singly=singly)
        self._enter_hits(c.game, turn, kept, hit)
        candidate = answered & (c.label >= 0) & ~self.chosen[c.game]
        if self.threat.objective != "minimum":
            candidate &= inside
        value = self._values(c, hit)
        better = self._better(c, candidate, hit, value, singly=singly)
        self._close_ended(c, turn, kept, hit, ends)
        segments = self._segments(c, before, turn, kept, better, hit, inside, value, singly=singly)
        outside = answered & ~inside & c.wins
        return Ruling(kept, hit, outside, refused, turn, bool((c.label >= 0).all()), better, segments)

    def settle(self, segment: Segment) -> None:
        """Enter the bests of a segment."""
        games = segment.game
        self.best_hit[games], self.best_value[games] = segment.hit, segment.value
        self.best_turn[games], self.best_inside[games] = segment.turn, segment.inside
        self.best_l2[games], self.best_linf[games] = segment.l2, segment.linf

    def _last_account(self, c: RowScalars, ban: Bools) -> Bools:
        """[n] whether the row's ban closes the last account of its game that was not closed."""
        if not ban.any():
            return ban
        closed = self.banned[c.game].sum(axis=1) - self.banned[c.game, c.account]
        return np.asarray(ban & (closed == self.threat.accounts - 1))

    def _not_after_end(self, c: RowScalars, ends: Bools) -> Bools:
        last = np.full(len(self.is_open), np.iinfo(np.int64).max)
        np.minimum.at(last, c.game[ends], c.rank[ends])
        return np.asarray(c.rank <= last[c.game])

    def _charge(self, c: RowScalars, kept: Bools, refused: Bools, ban: Bools, *, singly: bool) -> None:
        """Count the rows kept, and close the accounts that they ban; `singly`: no game has two rows."""
        if singly:
            self.queries[c.game] += kept
        else:
            self.queries += np.bincount(c.game[kept], minlength=len(self.queries))
        self.last_l2[c.game[kept]] = c.l2[kept]  # the last of a game's rows stays
        if self.threat.accounts > 1:
            self.last_account[c.game[kept]] = c.account[kept]
        if refused.any():
            self.refused += np.bincount(c.game[kept & refused], minlength=len(self.queries))
        if ban.any():
            self.banned[c.game[ban], c.account[ban]] = True
            self._has_banned = True

    def _enter_hits(self, game: Ints, turn: Ints, kept: Bools, hit: Bools) -> None:
        self._asked_in[game[kept]] = self.volley
        if hit.any():
            self._hit_in[game[hit]] = self.volley
            first = np.full(len(self.hit_at), np.iinfo(np.int64).max)
            np.minimum.at(first, game[hit], turn[hit])
            new = (self.hit_at == 0) & (first < np.iinfo(np.int64).max)
            self.hit_at[new] = first[new]

    def _values(self, c: RowScalars, hit: Bools) -> Floats:
        """[n] by what rows are compared, hits with hits and others with others; the lowest is the best."""
        value = c.margin
        if self.threat.objective == "minimum":
            value = np.where(hit, c.l2 if self.threat.norm == "l2" else c.linf, value)
        return np.where(np.isnan(value), np.inf, value)

    def _better(self, c: RowScalars, candidate: Bools, hit: Bools, value: Floats, *, singly: bool) -> Bools:
        """[n] whether a candidate beats its game's best and all rows of the game before it.

        A hit beats what is none, then the lower value beats the higher; of equals the earlier stays.
        """
        best_hit = self.best_hit[c.game]
        alike = (hit == best_hit) & (value < self.best_value[c.game])
        better: Bools = candidate & ((hit & ~best_hit) | alike)
        if singly:
            return better
        rows = np.flatnonzero(better)
        if len(rows) > 1 and c.rank[rows].any():
            rows = rows[np.lexsort((c.rank[rows], c.game[rows]))]
            _, grade = np.unique(np.stack([~hit[rows], value[rows]]), axis=1, return_inverse=True)
            # Grades fall from game to game by more than they differ, so that one running minimum serves all.
            fall = np.cumsum(np.diff(c.game[rows], prepend=c.game[rows[0]]) > 0) * len(rows)
            grade = grade.reshape(-1) - fall
            better[rows] = np.append(True, grade[1:] < np.minimum.accumulate(grade)[:-1])
        return better

    def _segments(
        self,
        c: RowScalars,
        before: Ints,
        turn: Ints,
        kept: Bools,
        better: Bools,
        hit: Bools,
        inside: Bools,
        value: Floats,
        *,
        singly: bool,
    ) -> list[Segment]:
        """The volley cut at the marks that games pass in it."""

        def segment(among: Bools, at: int | None, last: Ints) -> Segment:
            rows = np.flatnonzero(among)
            if not singly:
                rows = self._last(rows, c)
            return Segment(
                rows,
                c.game[rows],
                turn[rows],
                hit[rows],
                inside[rows],
                value[rows],
                c.l2[rows],
                c.linf[rows],
                at,
                c.game[last],
                c.l2[last],
            )

        none = np.zeros(0, np.int64)
        passed = kept & (turn >= self._due[c.game])
        if not passed.any():
            return [segment(better, None, none)] if better.any() else []
        segments = []
        mark = np.searchsorted(self.at, turn)
        for part in np.unique(mark[kept]).tolist():
            at = int(self.at[part])
            last = np.flatnonzero(kept & (turn == at))
            last = last[np.argsort(c.game[last])]
            segments.append(segment(better & (mark == part), at if len(last) else None, last))
        self._due = self.at[np.searchsorted(self.at, self.queries, side="right")]
        return segments

    def _last(self, rows: Ints, c: RowScalars) -> Ints:
        """Of `rows`, the last of each game."""
        if not c.rank[rows].any():
            return rows
        rows = rows[np.lexsort((-c.rank[rows], c.game[rows]))]
        _, leading = np.unique(c.game[rows], return_index=True)
        return np.asarray(rows[leading])

    def _close_ended(self, c: RowScalars, turn: Ints, kept: Bools, hit: Bools, ends: Bools) -> None:
        if ends.any():
            if self.threat.objective == "first":
                self.close(np.unique(c.game[kept & hit]), "hit")
            self.close(np.unique(c.game[kept & ends]), "banned")
        if (spent := kept & (turn >= self.threat.budget)).any():
            self.close(c.game[spent], "budget")

    def choose(self, games: Ints, l2: Floats, linf: Floats) -> Ints:
        """Enter the attacker's choice of final images, at these distances, in place of the best answers.

        Returns those of `games` that were open, for which alone it counts.
        """
        mine = self.is_open[games]
        taken: Ints = games[mine]
        self.best_turn[taken] = self.queries[taken]
        self.best_inside[taken] = self.inside(l2, linf)[mine]
        self.best_l2[taken], self.best_linf[taken] = l2[mine], linf[mine]
        self.chosen[taken] = True
        return taken

    def accept(self, games: Ints) -> None:
        """The attacker's rule accepted the last answers of `games`; counts where a hit was among them."""
        new = games[self.last_hit[games] & (self.accepted_at[games] == 0)]
        self.accepted_at[new] = self.queries[new]

    def answered(self, games: Ints, at: int | None = None) -> Bools:
        """[n] whether a hit was answered in `games`, by query count `at` if given."""
        hit_at = self.hit_at[games]
        return np.asarray((hit_at > 0) & (True if at is None else hit_at <= at))

    def distances_of(self, games: Ints, at: int | None = None) -> tuple[Floats, Floats]:
        """l2 and linf of the final images of `games`: the attacker's choice, or where a hit was answered.

        Else NaN.
        """
        scored = self.chosen[games] | self.answered(games, at)
        return np.where(scored, self.best_l2[games], np.nan), np.where(scored, self.best_linf[games], np.nan)
