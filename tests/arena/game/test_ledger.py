"""The books against a count by hand, one game and one row at a time, over volleys of many rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.game.ledger import Ledger, RowScalars, Ruling, Segment
from arena.rules.outcome import wins
from arena.rules.threat import Threat

NAN = math.nan


@dataclass
class Row:
    game: int
    label: int = 0
    margin: float = 1.0
    linf: float = 0.0
    refused: bool = False
    banned: bool = False
    account: int = 0


def columns(rows: list[Row], target: list[int] | None = None) -> RowScalars:
    """What the host is told of rows of games on class 0, with these targets by game, or none."""

    def of(name: str, dtype: Any) -> Any:
        return np.array([getattr(row, name) for row in rows], dtype=dtype)

    rank = [sum(before.game == row.game for before in rows[:n]) for n, row in enumerate(rows)]
    linf = of("linf", np.float64)
    goal = None if target is None else np.array(target)[of("game", np.int64)]
    return RowScalars(
        game=of("game", np.int64),
        rank=np.array(rank, dtype=np.int64),
        account=of("account", np.int64),
        label=of("label", np.int64),
        margin=of("margin", np.float64),
        l2=linf * 2,
        linf=linf,
        wins=wins(of("label", np.int64), np.zeros(len(rows), np.int64), goal),
        refused=of("refused", bool),
        flagged=np.zeros(len(rows), dtype=bool),
        banned=of("banned", bool),
    )


def ledger(at: list[int] | None = None, games: int = 3, **rules: Any) -> Ledger:
    threat = Threat(**{"epsilon": 1, "budget": 6, **rules})
    found = Ledger(threat, games, at or [])
    found.reset(np.arange(games))
    return found


def settled(books: Ledger, ruling: Ruling) -> Iterator[Segment]:
    """The segments of a ruling, each as soon as its bests are entered."""
    for segment in ruling.segments:
        books.settle(segment)
        yield segment


def enter(
    books: Ledger, rows: list[Row], target: list[int] | None = None
) -> tuple[Ruling, list[tuple[int | None, list[int], list[int]]]]:
    """Enter a volley; its ruling, and its segments as (mark, games due, turns of all games' bests then)."""
    books.begin_volley()
    ruling = books.enter(columns(rows, target))
    return ruling, [(s.mark, s.due.tolist(), books.best_turn.tolist()) for s in settled(books, ruling)]


@dataclass
class Hand:
    """A game kept by hand."""

    threat: Threat
    at: list[int]
    reason: str | None = None
    queries: int = 0
    refused: int = 0
    hit_at: int = 0
    best: tuple[bool, float, int] = (False, -math.inf, 0)
    """Whether it is a hit, the value negated, the turn."""
    marks: dict[int, int] = field(default_factory=dict)
    far: list[float] = field(default_factory=list)
    """The l2 distance of each query."""
    bettered: list[int] = field(default_factory=list)

    def row(self, row: Row) -> bool:
        if self.reason:
            return False
        self.queries += 1
        self.far.append(row.linf * 2)
        inside = row.linf <= self.threat.epsilon + 1e-6
        refused = row.refused or row.banned
        self.refused += refused
        hit = inside and not refused and row.label > 0
        self.hit_at = self.hit_at or (self.queries if hit else 0)
        minimum = self.threat.objective == "minimum"
        if not refused and row.label >= 0 and (inside or minimum):
            value = row.linf if hit and minimum else row.margin
            value = math.inf if math.isnan(value) else value
            if (hit, -value) > self.best[:2]:
                self.best = (hit, -value, self.queries)
                self.bettered.append(self.queries)
        if self.queries in self.at:
            self.marks[self.queries] = self.best[2]
        if hit and self.threat.objective == "first":
            self.reason = "hit"
        elif row.banned:
            self.reason = "banned"
        elif self.queries == self.threat.budget:
            self.reason = "budget"
        return True


ROWS = st.lists(
    st.builds(
        Row,
        game=st.integers(0, 2),
        label=st.sampled_from([0, 0, 0, 1, 2, -1]),
        margin=st.sampled_from([2.0, 1.0, 0.5, 0.5, -0.5, -1.0, NAN, math.inf, -math.inf]),
        linf=st.sampled_from([0.25, 0.5, 1.0, 1.000001, 1.00001, 2.0]),
        refused=st.sampled_from([False] * 5 + [True]),
        banned=st.sampled_from([False] * 12 + [True]),
    ),
    max_size=25,
)


@settings(max_examples=2 * settings().max_examples)
@given(
    volleys=st.lists(ROWS, min_size=1, max_size=4),
    objective=st.sampled_from(["first", "submit", "minimum"]),
    budget=st.integers(1, 20),
    at=st.sets(st.integers(1, 20), max_size=5).map(sorted),
)
def test_books_are_those_kept_by_hand(
    volleys: list[list[Row]], objective: str, budget: int, at: list[int]
) -> None:
    books = ledger(at, objective=objective, budget=budget)
    hands = [Hand(books.threat, at) for _ in range(3)]
    for rows in volleys:
        passed = [set(hand.marks) for hand in hands]
        ruling, steps = enter(books, rows)
        kept = [hands[row.game].row(row) for row in rows]
        assert ruling.kept.tolist() == kept
        assert books.queries.tolist() == [hand.queries for hand in hands]
        assert books.refused.tolist() == [hand.refused for hand in hands]
        assert books.left.min() >= 0
        assert books.hit_at.tolist() == [hand.hit_at for hand in hands]
        assert books.best_turn.tolist() == [hand.best[2] for hand in hands]
        assert books.best_hit.tolist() == [hand.best[0] for hand in hands]
        assert books.reason == [hand.reason for hand in hands]
        assert [NAN if np.isnan(l2) else l2 for l2 in books.last_l2] == [
            [NAN, *hand.far][-1] for hand in hands
        ]
        for segment in ruling.segments:
            at_mark = [hands[game].far[(segment.mark or 0) - 1] for game in segment.due]
            assert segment.due_l2.tolist() == at_mark
        assert books.is_open.tolist() == [hand.reason is None for hand in hands]
        assert books.banned[:, 0].tolist() == [hand.reason == "banned" for hand in hands]
        found = {(g, mark): bests[g] for mark, due, bests in steps if mark for g in due}
        expected = {
            (g, m): t for g, hand in enumerate(hands) for m, t in hand.marks.items() if m not in passed[g]
        }
        assert found == expected
        marks = [mark for mark, _, _ in steps if mark]
        assert marks == sorted(set(marks))
        for game in range(3):
            mine = [n for n, row in enumerate(rows) if row.game == game and kept[n]]
            turns = ruling.turn[mine].tolist()
            assert ruling.better[mine].tolist() == [turn in hands[game].bettered for turn in turns]
            assert turns == list(range(hands[game].queries - len(mine) + 1, hands[game].queries + 1))


def test_row_at_the_edge_of_the_ball_is_inside() -> None:
    """Up to epsilon + 1e-6, as float32 measures it."""
    for distance, hit in ((1.0, True), (1 + 9.6e-7, True), (1 + 1.1e-6, False)):
        books = ledger()
        ruling, _ = enter(books, [Row(0, label=1, linf=distance)])
        assert ruling.hit.tolist() == [hit], distance
        assert books.reason[0] == ("hit" if hit else None)


def test_l2_games_are_measured_in_l2() -> None:
    ruling, _ = enter(ledger(norm="l2"), [Row(0, label=1, linf=0.5), Row(1, label=1, linf=0.6)])
    assert ruling.hit.tolist() == [True, False]


def test_only_the_targets_label_wins_a_targeted_game() -> None:
    books = ledger(goal="targeted")
    rows = [Row(0, label=1), Row(0, label=-1), Row(0, label=2), Row(1, label=1)]
    ruling, _ = enter(books, rows, [2, 1, 2])
    assert ruling.hit.tolist() == [False, False, True, True]
    assert books.hit_at.tolist() == [3, 1, 0]


def test_a_row_that_hits_and_empties_the_budget_is_a_hit() -> None:
    books = ledger(budget=2)
    enter(books, [Row(0), Row(0, label=1), Row(0, label=1), Row(1), Row(1), Row(1)])
    assert books.reason == ["hit", "budget", None]
    assert books.queries.tolist() == [2, 2, 0]


def test_a_refused_row_is_charged_and_never_wins() -> None:
    books = ledger()
    ruling, _ = enter(books, [Row(0, label=1, refused=True), Row(1, label=1, banned=True)])
    assert ruling.hit.tolist() == [False, False]
    assert books.queries.tolist() == [1, 1, 0]
    assert books.refused.tolist() == [1, 1, 0]
    assert books.reason == [None, "banned", None]


def test_a_ban_after_the_end_bans_nobody() -> None:
    books = ledger()
    enter(books, [Row(0, label=1), Row(0, banned=True)])
    assert books.reason[0] == "hit"
    assert not books.banned.any()


def test_a_game_is_banned_with_its_last_account() -> None:
    books = ledger(accounts=3)
    for account in (2, 0, 2, 0):
        enter(books, [Row(0, banned=True, account=account), Row(1, account=account)])
    assert books.banned[0].tolist() == [True, False, True]
    assert books.reason == [None, None, None]
    ruling, _ = enter(books, [Row(0, label=1, account=2)])
    assert (ruling.refused.tolist(), ruling.hit.tolist()) == ([True], [False])
    enter(books, [Row(0, banned=True, account=1)])
    assert books.reason[0] == "banned"
    assert books.banned[1].tolist() == [False] * 3


@pytest.mark.parametrize(
    ("objective", "rows", "best"),
    [
        ("submit", [Row(0, margin=0.5), Row(0, margin=0.5)], 1),  # the earlier of equals
        ("submit", [Row(0, label=1, margin=-0.1), Row(0, margin=-9)], 1),  # a hit before all others
        ("submit", [Row(0, label=1, margin=-0.1, linf=0.1), Row(0, label=1, margin=-0.2, linf=0.9)], 2),
        ("minimum", [Row(0, label=1, margin=-0.1, linf=0.1), Row(0, label=1, margin=-0.2, linf=0.9)], 1),
        ("minimum", [Row(0, label=1, margin=-9, linf=0.9), Row(0, label=1, margin=-0.1, linf=0.8)], 2),
        (
            "minimum",
            [Row(0, margin=0.2, linf=5), Row(0, margin=0.1, linf=9)],
            2,
        ),  # the start of a boundary walk
        ("submit", [Row(0, margin=0.2, linf=5)], 0),  # outside the ball
        ("submit", [Row(0, margin=NAN)], 0),
        ("submit", [Row(0, label=1, margin=NAN), Row(0, label=1, margin=3)], 2),
        ("submit", [Row(0, label=-1, margin=-9)], 0),  # declined
        ("submit", [Row(0, refused=True, margin=-9)], 0),
    ],
)
def test_best_image(objective: str, rows: list[Row], best: int) -> None:
    """The same whether the rows come in one volley or one by one."""
    together, singly = ledger(objective=objective), ledger(objective=objective)
    enter(together, rows)
    for row in rows:
        enter(singly, [row])
    assert together.best_turn[0] == singly.best_turn[0] == best


def test_marks_passed_in_one_volley_each_get_their_own_best() -> None:
    margins = [0.9, 0.8, 0.95, 0.7, 0.6]
    books = ledger(at=[1, 3, 4], objective="submit")
    ruling, steps = enter(books, [Row(1), *[Row(0, margin=m) for m in margins]])
    assert [(mark, due) for mark, due, _ in steps] == [(1, [0, 1]), (3, [0]), (4, [0]), (None, [])]
    assert [turns[0] for _, _, turns in steps] == [1, 2, 4, 5]
    assert ruling.better.tolist() == [True, True, True, False, True, True]


def test_the_attackers_choice_takes_the_place_of_the_best_in_open_games() -> None:
    books = ledger(norm="linf")
    enter(books, [Row(0, label=1, linf=0.5), Row(1)])
    taken = books.choose(np.array([2, 0, 1]), np.array([0.1, 0.2, 4.0]), np.array([0.1, 0.2, 2.0]))
    assert taken.tolist() == [2, 1]  # game 0 had ended with its hit
    assert books.chosen.tolist() == [False, True, True]
    assert books.best_linf.tolist() == [0.5, 2.0, 0.1]
    assert books.best_inside.tolist() == [True, False, True]
    assert books.best_turn.tolist() == [1, 1, 0]
    assert books.distances_of(np.arange(3))[1].tolist() == [
        0.5,
        2.0,
        0.1,
    ]  # whether a hit was answered or not
    enter(books, [Row(1, linf=0.3, margin=-9.0)])
    assert books.best_linf.tolist() == [0.5, 2.0, 0.1]


def test_acceptance_counts_on_hits_alone_and_once() -> None:
    books = ledger(objective="submit")
    everyone = np.arange(3)
    books.accept(everyone)
    assert books.accepted_at.tolist() == [0, 0, 0]
    enter(books, [Row(0, label=1), Row(1), Row(2, label=1), Row(2)])
    books.accept(everyone)
    assert books.accepted_at.tolist() == [1, 0, 2]  # a hit was among the rows of game 2
    enter(books, [Row(0, label=1), Row(1, label=1, refused=True), Row(2)])
    books.accept(everyone)
    assert books.accepted_at.tolist() == [1, 0, 2]


def test_answered_and_distances_are_those_by_a_query_count() -> None:
    books = ledger(objective="submit")
    enter(books, [Row(0), Row(0), Row(0, label=1, linf=0.5)])
    everyone = np.arange(3)
    assert books.answered(everyone).tolist() == [True, False, False]
    assert books.answered(everyone, 2).tolist() == [False, False, False]
    assert books.answered(everyone, 3).tolist() == [True, False, False]
    l2, linf = books.distances_of(everyone)
    assert (l2[0], linf[0]) == (1.0, 0.5)
    assert np.isnan(l2[1:]).all()
    assert np.isnan(books.distances_of(everyone, 2)[0]).all()


def test_books_are_opened_anew_for_some_games() -> None:
    books = ledger(objective="submit", accounts=2)
    rows = [Row(g, label=1, linf=0.5, margin=-3) for g in range(3)]
    enter(books, rows)
    enter(books, [Row(g, banned=True, account=1) for g in range(3)])
    books.accept(np.arange(3))
    books.close(np.arange(3), "resigned")
    books.reset(np.array([1]))
    fresh = ledger(objective="submit", accounts=2)
    assert books.reason == ["resigned", None, "resigned"]
    for name, value in vars(fresh).items():
        if isinstance(value, np.ndarray) and name != "at":
            assert str(getattr(books, name)[1].tolist()) == str(value[1].tolist()), name
    assert books.queries.tolist() == [2, 0, 2]


def test_closing_ends_only_open_games() -> None:
    books = ledger()
    assert books.close(np.array([1]), "resigned").tolist() == [1]
    assert books.close(np.array([0, 1, 1]), "stalled").tolist() == [0]
    assert books.reason == ["stalled", "resigned", None]
