"""What the Referee reports as it happens, in numpy columns: for the log or any other listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arena.rules.outcome import Bools, Floats, Ints, Reason


@dataclass(frozen=True)
class QueryRows:
    """The charged queries of one volley, [m] each, in the order of the volley.

    Attributes:
        game: the game's place in the shard.
        turn: the query's number within its game, from 1.
        label: the label the defended classifier gave, -1 for none.
        margin: the defended signed margin before the feedback filter (the attacker minimises it).
        l2, linf: distances from the clean image, after quantisation.
        hit: inside the ball with a winning label, neither refused nor declined.
        outside: outside the ball with a winning label, neither refused nor declined.
        better: this row became the game's best image.
        digest: of the image as the service saw it: of one game, equal images have equal ones, others hardly
            ever (`rules.geometry.digests`); None where nobody asked for them.
        margin_base: the margin of the hardened classifier alone at the same images; None where nobody asked
            for it.
    """

    purpose: str
    game: Ints
    turn: Ints
    account: Ints
    label: Ints
    refused: Bools
    flagged: Bools
    margin: Floats
    l2: Floats
    linf: Floats
    hit: Bools
    outside: Bools
    better: Bools
    digest: Ints | None = None
    margin_base: Floats | None = None

    def __len__(self) -> int:
        return len(self.game)


@dataclass(frozen=True)
class MarkRows:
    """The verdicts on the images that counted as the games' final ones at query count `at`, [m] each.

    Attributes:
        turn: the turn at which the image judged was sent; 0 for the clean image.
        answered: a hit had been answered by then.
        wrong, asked: [m,2] how many fresh answers were wrong, and how many were asked for, in two halves, so
            that one can choose and the other value; none are asked for images outside the ball.
        again: one more answer to the account that asked last, with the defenders' memory as it is then, is
            wrong; NaN where no defender remembers or nothing was asked yet.
        base: the hardened classifier alone is wrong.
        l2, linf: the distances of the hit; NaN without one.
        query_l2: the l2 distance of the `at`-th query, or of the last one where the game ended before; NaN
            without any.
    """

    at: int
    game: Ints
    turn: Ints
    answered: Bools
    wrong: Ints
    asked: Ints
    again: Floats
    base: Bools
    l2: Floats
    linf: Floats
    query_l2: Floats

    @property
    def vote(self) -> Floats:
        """[m] the share of fresh answers that are wrong."""
        return share_wrong(self.wrong, self.asked)


@dataclass(frozen=True)
class NoteRows:
    """A remark about games, [m] each; `value` is text or a number."""

    key: str
    game: Ints
    turn: Ints
    value: list[str] | list[float]


@dataclass(frozen=True)
class GameRows:
    """How games ended, [G] each: all games of a shard, or those that ended in a step of an environment.

    Attributes:
        game: the games' places in the shard.
        key: the games' numbers (image numbers in the data set).
        label, target: true labels; targets, -1 when untargeted.
        reason: why each ended.
        queries, insider_queries, refused: charged rows; insider evaluations; charged rows refused.
        answered, wrong, asked, again, base: the verdicts on the final image, as in `MarkRows`.
        hit_at: turn of the first answered hit, 0 for none.
        accepted_at: turn of the first hit that the attacker's own rule accepted, 0 for none.
        l2, linf: distances of the final image if it is a hit, else NaN.
        final: [G,C,H,W] float32, the final images as the service saw them: what was judged.
    """

    game: Ints
    key: Ints
    label: Ints
    target: Ints
    reason: list[Reason]
    queries: Ints
    insider_queries: Ints
    refused: Ints
    answered: Bools
    wrong: Ints
    asked: Ints
    again: Floats
    base: Bools
    hit_at: Ints
    accepted_at: Ints
    l2: Floats
    linf: Floats
    final: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.key)

    @property
    def vote(self) -> Floats:
        """[G] the share of fresh answers that are wrong."""
        return share_wrong(self.wrong, self.asked)


@dataclass(frozen=True)
class CourseRows:
    """How the games of a shard went, [G] each, in the order of their places; NaN for what is not known.

    Only answered queries count for margins and distances, and only images in the ball for margins.

    Attributes:
        flagged: charged queries that were flagged.
        alarm_at: turn of the first query that was refused or flagged, 0 for none.
        duplicates: charged queries whose image is that of an earlier one of the game; NaN where there were
            too many queries to tell (`records.courses.MOST_DIGESTS`).
        margin_first, margin_late, margin_best: the signed margin of the first query, the lowest within nine
            tenths of the budget, and the lowest of all.
        distance_first, distance_late: in the threat's norm, of the first hit, and of the nearest hit within
            nine tenths of the budget.
    """

    flagged: Ints
    alarm_at: Ints
    duplicates: Floats
    margin_first: Floats
    margin_late: Floats
    margin_best: Floats
    distance_first: Floats
    distance_late: Floats


def share_wrong(wrong: Ints, asked: Ints) -> Floats:
    """[n] the share of wrong answers, from counts in halves [n,2]; 0 where none was asked for."""
    return np.asarray(wrong.sum(axis=1) / np.maximum(asked.sum(axis=1), 1))


class Listener(Protocol):
    """Receives the reports on a shard while it is played; `games` comes once, as the last.

    In an environment, new games take the places of ended ones, and `games` comes whenever games have ended:
    the earlier reports on such a place, since the last `games` about it, belong to the game that ended there.
    """

    def queries(self, rows: QueryRows) -> None: ...

    def marks(self, rows: MarkRows) -> None: ...

    def notes(self, rows: NoteRows) -> None: ...

    def games(self, rows: GameRows) -> None: ...


class SilentListener:
    """A Listener that keeps nothing."""

    def queries(self, rows: QueryRows) -> None:
        pass

    def marks(self, rows: MarkRows) -> None:
        pass

    def notes(self, rows: NoteRows) -> None:
        pass

    def games(self, rows: GameRows) -> None:
        pass


class MemoryListener(SilentListener):
    """A Listener that keeps everything, in order."""

    def __init__(self) -> None:
        self.query_rows: list[QueryRows] = []
        self.mark_rows: list[MarkRows] = []
        self.note_rows: list[NoteRows] = []
        self.game_rows: GameRows | None = None

    def queries(self, rows: QueryRows) -> None:
        self.query_rows.append(rows)

    def marks(self, rows: MarkRows) -> None:
        self.mark_rows.append(rows)

    def notes(self, rows: NoteRows) -> None:
        self.note_rows.append(rows)

    def games(self, rows: GameRows) -> None:
        self.game_rows = rows
