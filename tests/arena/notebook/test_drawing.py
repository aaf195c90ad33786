"""Curves of matches."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from arena.notebook.results import Results
from arena.rules.threat import Threat

VOTED = {"answers_are_facts": False, "verdict": "vote"}


@pytest.fixture(autouse=True)
def closed():
    matplotlib.use("Agg")
    yield
    pyplot.close("all")


@pytest.fixture
def voted(by_hand):
    marks = {at: {"vote": [0.5 * (at > 0), 0], "answered": [at > 0] * 2} for at in (0, 5, 10)}
    games = {"answered": [True, True], "vote": [0.5, 0], "hit_at": [2, 4]}
    return by_hand(
        ["submitted"] * 2, marks, threat=Threat(epsilon=1, budget=10, objective="submit"), **games, **VOTED
    )


def _lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_the_headline_is_drawn_and_the_lucky_verdict_is_thin(voted) -> None:
    lines = _lines(voted.plot())
    vote, answered = lines["square, vote"], lines["square, answered"]
    assert vote.get_xydata().tolist() == [[0, 1], [5, 0.75], [10, 0.75]]
    assert answered.get_ydata()[[0, 1, 2, 4, 10]].tolist() == [1, 1, 0.5, 0, 0]
    assert answered.get_linewidth() < vote.get_linewidth()
    first = replace(voted, match=replace(voted.match, threat=Threat(epsilon=1, budget=10)))
    both = _lines(first.plot())
    assert both["square, answered"].get_linewidth() == both["square, vote"].get_linewidth()


def test_the_minimum_is_drawn_by_distance(by_hand) -> None:
    threat = Threat(norm="l2", epsilon="inf", budget=10, objective="minimum")
    marks = {0: {}, 5: {"l2": [np.nan] * 2 + [1.0]}, 10: {"l2": [2.0, 1.0, 3.0]}}
    result = by_hand(["budget"] * 3, marks, l2=[2.0, 1.0, 3.0], answered=[True] * 3, threat=threat)
    axes = result.plot()
    assert _lines(axes)["square"].get_xydata().tolist() == [[10, 2]], "nothing finite at 5"
    assert axes.get_ylabel() == "median ℓ2 distance"
    assert result.plot("accuracy").get_ylabel() == "accuracy left"
    with pytest.raises(ValueError, match='no plot "distances"; did you mean "distance"'):
        result.plot("distances")


def test_an_attacker_that_failed_is_no_line_at_the_top(by_hand) -> None:
    lines = _lines(by_hand(["error"] * 2, {0: {}, 10: {}}).plot())
    assert list(lines) == ["square: every game failed"]
    assert not len(lines["square: every game failed"].get_xydata())


def test_each_defender_has_a_chart_and_each_attacker_a_line(voted, by_hand) -> None:
    plain = by_hand(["hit"] * 2, {0: {}, 10: {"answered": [True] * 2}}, answered=[True] * 2, hit_at=[1, 2])
    other = replace(voted, match=replace(voted.match, attacker_title="other", defender_title="snd"))
    named = replace(voted, match=replace(voted.match, defender_title="snd"))
    charts = Results([plain, named, other]).plot()
    assert [axes.get_title() for axes in charts] == ["against none", "against snd"]
    assert list(_lines(charts[0])) == ["square, answered"]
    assert list(_lines(charts[1])) == ["square, vote", "square, answered", "other, vote", "other, answered"]
    figure, axes = pyplot.subplots()
    assert voted.plot(ax=axes) is axes
    assert figure.axes == [axes]
