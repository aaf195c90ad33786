"""Medians and success within radii by query count, against what hand-written games say."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from arena.log.answers import LoggedGames, LoggedMarks, LoggedMatch
from arena.report.distances import Distances, distances, joined
from arena.report.html import render
from arena.rules.threat import Threat
from arena.statistics import wilson

INF = math.inf
FAR = [[3.0, 2.0, INF, 1.0, 5.0], [2.0, 2.0, INF, 0.5, 5.0]]
"""l2 of five games at 10 and at 20 queries; the last one is clean."""


@pytest.fixture
def told(info):
    """The distances of a match of five games, by changes of its threat."""

    def told(radii=(0.5, 2.0), image=(0, 1, 2, 3, 4), **threat) -> Distances | None:
        rules = Threat(**{"norm": "l2", "epsilon": "inf", "budget": 20, "objective": "minimum", **threat})
        n = np.arange(5)
        zeros = np.zeros(5, np.int64)
        vote = [np.array([0.5, 0.2, 0.9, 1.0, 1.0]), np.array([0.25, 0.2, 0.9, 0.8, 1.0])]
        far = [np.array(l2) for l2 in FAR]
        hit = [np.isfinite(l2) for l2 in far]
        base = [np.array([True, False, True, True, True]), np.array([False, False, True, True, True])]
        outcomes = LoggedGames(
            n + 1, zeros, zeros, np.array(image), zeros, zeros - 1, ["budget"] * 4 + ["clean"], zeros, zeros,
            zeros, hit[1], vote[1], *[zeros] * 4, np.full(5, np.nan), base[1], zeros, zeros,
            far[1], far[1] / 10, *[np.full(5, np.nan)] * 8,
        )  # fmt: skip
        marks = LoggedMarks(
            np.repeat([0, 10], 5), np.tile(n + 1, 2), np.tile(zeros, 2), np.append(np.zeros(5, bool), hit[0]),
            np.append(np.zeros(5), vote[0]), *[np.tile(zeros, 2)] * 4, np.full(10, np.nan),
            np.append(np.zeros(5, bool), base[0]),
            np.append(np.full(5, INF), far[0]), np.append(np.full(5, INF), far[0] / 10),
            np.zeros(10),
        )  # fmt: skip
        played = LoggedMatch(1, 1, replace(info, threat=rules, radii=radii))
        return distances(played, outcomes, marks, np.array([True] * 4 + [False]))

    return told


def test_medians_are_over_played_games_and_count_no_hit_as_infinite(told):
    found = told()
    assert found.counts == (10, 20)
    assert [found.median[at].value for at in (10, 20)] == [2.5, 2.0]
    assert [(m.low, m.high) for m in found.median.values()] == [(0, INF)] * 2, "four games enclose no median"
    assert told(norm="linf").median[10].value == pytest.approx(0.25)


def test_within_a_radius_a_game_counts_with_its_verdict(told):
    found = told()
    assert list(found.within) == [0.5, 2.0, INF]
    shares = {
        (r, at, v): rate.value
        for r, counts in found.within.items()
        for at, rates in counts.items()
        for v, rate in rates.items()
    }
    wanted = {
        (0.5, 10): (0, 0, 0),
        (0.5, 20): (1 / 4, 0.8 / 4, 1 / 4),
        (2.0, 10): (2 / 4, 1.2 / 4, 1 / 4),
        (2.0, 20): (3 / 4, 1.25 / 4, 1 / 4),
        (INF, 10): (3 / 4, 1.7 / 4, 2 / 4),
        (INF, 20): (3 / 4, 1.25 / 4, 1 / 4),
    }
    for (radius, at), by in wanted.items():
        for verdict, share in zip(("answered", "vote", "base"), by, strict=True):
            assert shares[radius, at, verdict] == pytest.approx(share), (radius, at, verdict)
    rate = found.within[2.0][20]["answered"]
    interval = binomtest(3, 4).proportion_ci(method="wilson")
    assert (rate.low, rate.high) == pytest.approx((interval.low, interval.high))
    vote = found.within[2.0][20]["vote"]
    assert (vote.low, vote.high) == pytest.approx(wilson(1.25, 4))


def test_a_radius_has_the_balls_slack(told):
    assert told(radii=(2.0 - 5e-7,)).within[2.0 - 5e-7][10]["answered"].value == 0.5
    assert told(radii=(2.0 - 5e-6,)).within[2.0 - 5e-6][10]["answered"].value == 0.25


def test_replays_of_an_image_count_as_one_in_intervals(told):
    apart, alike = told(), told(image=(0, 0, 1, 1, 4))
    assert alike.within[2.0][20]["answered"].value == apart.within[2.0][20]["answered"].value
    interval = binomtest(3, 4).proportion_ci(method="wilson")
    one = alike.within[2.0][20]["answered"]
    assert one.low < interval.low < interval.high < one.high


def test_the_epsilon_of_the_threat_is_the_last_radius_once(told):
    assert list(told(radii=(0.5, 3.0), epsilon=3.0).within) == [0.5, 3.0]
    assert list(told(radii=(), epsilon=3.0).within) == [3.0]


def test_other_objectives_have_none(told):
    assert told(radii=(), epsilon=3.0, objective="submit") is None


def test_verdicts_that_agree_are_one_line(told):
    assert [line[::2] for line in told(radii=(0.1,)).lines] == [
        (0.1, "by all"),
        (INF, "answered"),
        (INF, "vote"),
        (INF, "base"),
    ]


def test_matches_of_several_budgets_are_joined(told):
    whole = told()
    parts = [
        Distances(
            {at: whole.median[at]},
            {r: {at: counts[at]} for r, counts in whole.within.items()},
            {at: whole.answered[at]},
        )
        for at in (20, 10)
    ]
    assert joined(parts) == whole
    assert list(joined(parts).median) == [10, 20]


def test_many_radii_are_drawn_along_and_not_told_one_by_one(told):
    few = told(radii=tuple(np.linspace(0.5, 3.5, 7).tolist()))
    assert len(few.radii) == 8 and few.along == ()
    many = told(radii=tuple(np.linspace(0.5, 4.0, 8).tolist()))
    assert many.radii == (INF,) and many.along == tuple(np.linspace(0.5, 4.0, 8).tolist())
    assert [radius for radius, *_ in many.lines] == [INF] * len(many.lines)
    closed = told(radii=tuple(np.linspace(0.5, 4.0, 8).tolist()), epsilon=4.5)
    assert closed.radii == (4.5,) and closed.along[-1] == 4.5


def test_a_page_draws_success_against_the_radius_at_each_reported_count(hand, game, threat):
    rules = Threat(norm="l2", epsilon="inf", budget=10, objective="minimum")
    radii = tuple(np.linspace(1, 12, 12).tolist())
    run = hand.run()
    won = [game(i, hit_at=1 + 5 * (i % 2), votes=(0, 1, 1), base=True, l2=i + 1) for i in range(10)]
    for number, (attacker, defender) in enumerate([("square", "none"), ("nes", "none"), ("nes", "snd")]):
        titles = {"attacker": attacker, "defender": defender, "number": number}
        hand.match(run, *won, threat=rules, radii=radii, **titles)
    text = render(hand.log, run)
    labels = re.findall(r'aria-label="(Success against the ℓ2 radius[^"]*)"', text)
    assert [re.match(r".* at ([\d,]+) queries", label)[1] for label in labels] == ["5", "10"]
    for label, shares in zip(labels, ([10, 10, 20, 20, 30], [10, 20, 30, 40, 50]), strict=True):
        for pair in ("square against none", "nes against none", "nes against snd"):
            told = ", ".join(f"{share}.0 % within {radius}" for radius, share in enumerate(shares, 1))
            assert f"{pair}, by answered: {told}, " in label
    section = text[text.index("Success against the radius") : text.index("Distance and success at each")]
    legend = re.findall(r"</svg>([^<]+)</li>", section)
    assert sorted(legend) == ["nes against none", "nes against snd", "square against none"]
    charts = re.findall(r'<svg viewBox="[^"]*" aria-hidden="true" focusable="false">.*?</svg>', section, re.S)
    assert len(charts) == 2
    for chart in charts:
        assert {f"var(--c{n})" in chart for n in range(3)} == {True} and "var(--c3)" not in chart
    assert "≤&nbsp;12" not in text and "≤&nbsp;∞" in text, "no table of twelve radii"
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_more_lines_than_strokes_are_apart_by_defender(hand, game, threat):
    rules = Threat(norm="l2", epsilon="inf", budget=10, objective="minimum")
    run, won = hand.run(), [game(i, hit_at=1, votes=(0, 1, 1), base=True, l2=i + 1) for i in range(2)]
    for number in range(24):
        titles = {"attacker": f"a{number % 12}", "defender": f"d{number // 12}", "number": number}
        hand.match(run, *won, threat=rules, radii=tuple(range(1, 10)), **titles)
    labels = re.findall(r'aria-label="Success against the ℓ2 radius at ([^.]*)\.', render(hand.log, run))
    assert labels == ["5 queries, d0", "5 queries, d1", "10 queries, d0", "10 queries, d1"]
