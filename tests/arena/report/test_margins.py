"""Margins along watched games: the right games, both lines, and what their words say."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arena.records.reports import QueryRows
from arena.report import margins
from arena.report.html import render
from arena.report.summary import read_rows


def queries(place: int, margin: list[float], base: list[float] | None) -> QueryRows:
    """Queries of the game at a place, hits where the margin is below 0."""
    count, won = len(margin), np.array(margin) < 0
    none = np.zeros(count, np.bool_)
    return QueryRows(
        "step",
        np.full(count, place),
        np.arange(1, count + 1),
        np.zeros(count, np.int64),
        np.where(won, 8, 3),
        none,
        none,
        np.array(margin),
        np.ones(count),
        np.ones(count) / 2,
        won,
        none,
        won,
        margin_base=None if base is None else np.array(base),
    )


FALLING = [3.0, 1.5, 2.0, -1.0]
MIRRORED = [1.0, 2.0, 1.5, -2.0]


@pytest.fixture
def watched(hand: Any, game: Callable[..., Any]) -> Any:
    """Three games, the second won, and a match that nobody watched."""
    run = hand.run()
    games = [game(image=30), game(image=10, hit_at=4, l2=1.0, queries=4), game(image=20)]
    asked = [queries(1, FALLING, MIRRORED), queries(0, [1.0, 0.5], [4.0, 5.0]), queries(2, [7.0], [6.0])]
    match = hand.match(run, *games, queries=asked)
    hand.match(run, *games, queries=[queries(1, FALLING, None)], number=1, attacker="other")
    return hand.log, run, match


def test_the_first_game_won_and_the_first_that_was_kept_are_shown(watched: Any) -> None:
    log, run, match = watched
    rows = read_rows(log, run)
    assert [margins.is_watched(log, row.match) for row in rows] == [True, False]
    found = margins.courses(log, rows)
    assert list(found) == [match]
    assert [(course.image, course.won) for course in found[match]] == [(10, True), (20, False)]
    assert found[match][0].rows.margin_base.tolist() == MIRRORED
    assert found[match][0].flipped == pytest.approx(2 / 3), "both fall in the last of three steps"


def test_many_matches_are_thinned_evenly(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log, run, match = watched
    row = read_rows(log, run)[0]
    monkeypatch.setattr(margins, "MOST", 4)
    asked: list[int] = []
    monkeypatch.setattr(margins, "is_watched", lambda log, match: True)
    monkeypatch.setattr(margins, "_of", lambda log, match: asked.append(match.id))
    margins.courses(log, [row] * 9)
    assert asked == [match] * 2


def lines(svg: str) -> dict[int, np.ndarray]:
    """The points of the two lines in the drawing's coordinates, by colour."""
    found = {}
    for number in (margins.DEFENDED, margins.UNDEFENDED):
        (line,) = re.findall(rf'<path d="([^"]*)"[^>]*fill: none; stroke: var\(--c{number}\)', svg)
        found[number] = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", line), np.float64)
    return found


def test_both_margins_lie_on_one_scale(watched: Any) -> None:
    log, run, match = watched
    course = margins.courses(log, read_rows(log, run))[match][0]
    drawn = lines(margins.margin_curves(course, "a"))
    x, y = np.concatenate([drawn[margins.DEFENDED], drawn[margins.UNDEFENDED]]).T
    assert x[:4].tolist() == x[4:].tolist() and np.allclose(np.diff(x[:4]), x[1] - x[0], atol=0.01)
    values = np.array(FALLING + MIRRORED)
    slope, offset = np.polyfit(values, y, 1)
    assert slope < 0 and np.allclose(slope * values + offset, y, atol=0.01), "downwards in the drawing"


def test_a_game_of_one_query_is_two_dots_and_counts_are_whole(watched: Any) -> None:
    log, run, match = watched
    long, short = (margins.margin_curves(c, "a") for c in margins.courses(log, read_rows(log, run))[match])
    dots = [len(re.findall(r'<use [^>]*style="[^"]*fill: var\(--c[01]\)', svg)) for svg in (long, short)]
    assert dots == [0, 2]
    for svg in (long, short):
        ticks = svg[svg.index("matplotlib.axis_1") : svg.index("matplotlib.axis_2")]
        counts = re.findall(r">([\d.]+)</text>", ticks)
        assert counts and all(text.isdigit() for text in counts)


def test_long_lines_keep_their_peaks_and_are_bounded() -> None:
    turn = np.arange(1, 20_001)
    value = np.random.default_rng(0).normal(size=20_000)
    value[777], value[15_000], value[3] = -50, 60, np.inf
    shown, kept = margins.thinned(turn, value)
    assert len(shown) <= margins.POINTS + 2 and (np.diff(shown) > 0).all()
    assert {778, 15_001, 1, 20_000} <= set(shown.tolist()) and 4 not in shown
    assert (kept == value[shown - 1]).all() and kept.min() == -50 and kept.max() == 60


def test_the_page_says_which_games_and_what_they_show(watched: Any) -> None:
    log, run, _ = watched
    text = render(log, run)
    assert text.count("Defended and undefended margin along a game") == 1
    assert margins.RULE in text
    labels = re.findall(r'aria-label="([^"]*Margins in the game[^"]*)"', text)
    assert [re.sub(r"\. Margins.*", "", label) for label in labels] == [
        "square against none: image 10, won",
        "square against none: image 20, kept",
    ]
    assert "defended from 3 to -1, least -1, undefended from 1 to -2, least -2" in labels[0]
    assert "opposite ways in 67% of the steps" in labels[0]


def test_without_a_monitor_there_is_nothing_of_it(hand: Any, game: Callable[..., Any]) -> None:
    run = hand.run()
    hand.match(run, game(image=1), queries=[queries(0, FALLING, None)])
    assert "undefended margin along" not in render(hand.log, run)
