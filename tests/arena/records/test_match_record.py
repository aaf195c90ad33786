"""Shares of won games, their intervals, and what a record says of games that were not played."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from arena.records.joining import join_games
from arena.rules.threat import Threat
from arena.statistics import median_interval, wilson

VOTED: dict[str, Any] = {"answers_are_facts": False, "verdict": "vote"}


@pytest.fixture
def near(by_hand):
    """Four played games and a clean one, of which the first got nearer after query 3."""
    vote = np.asarray([0.5, 1.0, 0.2, 0.25, 1.0])
    rest = {"linf": np.full(5, 9.0), "answered": [True, True, False, True, True]}
    return by_hand(
        ["budget"] * 4 + ["clean"],
        {3: {"l2": [2.5, 2.0, np.nan, 3.0, 0.0], "vote": vote / 2, **rest}},
        l2=[1.0, 2.0, np.nan, 3.0, 0.0],
        vote=vote,
        threat=Threat(norm="l2", epsilon=5, budget=5, objective="minimum"),
        **rest,
    )


def test_the_median_distance_counts_played_games_and_no_hit_as_infinite(near, by_hand) -> None:
    assert near.median_distance() == (2.5, 0, np.inf)
    assert near.median_distance(at=3) == (2.75, 0, np.inf)
    with pytest.raises(ValueError, match=r"no verdicts were reported at 4 queries; there are those at \[3\]"):
        near.median_distance(at=4)
    assert near.median_distance("vote")[0] == np.inf, "one of four wins more than half of its answers"
    threat = Threat(norm="l2", epsilon="inf", budget=5, objective="minimum")
    result = by_hand(["budget"] * 40, l2=np.arange(40.0), threat=threat)
    assert result.median_distance() == (19.5, *median_interval(np.arange(40.0)))


def test_success_within_a_radius_goes_by_the_verdict_of_near_images(near) -> None:
    assert near.success_within(2.0) == pytest.approx((2 / 4, *wilson(2, 4)))
    assert near.success_within(2.0, at=3) == pytest.approx((1 / 4, *wilson(1, 4)))
    assert near.success_within(2.0, "vote") == pytest.approx((1.5 / 4, *wilson(1.5, 4)))
    assert near.success_within(2.5, "vote", at=3) == pytest.approx((0.75 / 4, *wilson(0.75, 4)))
    assert near.success_within(np.inf, "vote")[0] == pytest.approx(1.75 / 4)
    assert near.success_within(2.0 - 5e-7)[0] == 0.5, "the slack of a ball"


def test_votes_count_with_their_shares_over_played_games(by_hand) -> None:
    result = by_hand(["hit", "budget", "clean"], vote=[0.5, 1.0, 1.0])
    assert result.success("vote") == pytest.approx((0.75, *wilson(1.5, 2)))
    assert result.accuracy("vote") == pytest.approx(0.5 / 3)


def test_the_interval_of_equal_votes_does_not_collapse(by_hand) -> None:
    rate, low, high = by_hand(["budget"] * 3, vote=[0.4] * 3).success("vote")
    assert rate == pytest.approx(0.4)
    assert low < 0.2 < 0.7 < high


def test_the_default_is_the_headline_and_not_the_lucky_verdict(by_hand) -> None:
    games = {"answered": [True, True, False, False], "vote": [0.25, 0, 0, 0], "hit_at": [3, 8, 0, 0]}
    marks = {at: {"answered": [at > 3, False, False, False], "vote": [0.2, 0, 0, 0]} for at in (0, 5)}
    fact, voted = (by_hand(["budget"] * 4, marks, **games, **more) for more in ({}, VOTED))
    assert (fact.headline, fact.accuracy(), fact.success()[0]) == ("answered", 0.5, 0.5)
    assert (voted.headline, voted.accuracy(), voted.success()[0]) == ("vote", 0.9375, 0.0625)
    assert voted.accuracy(at=5) == pytest.approx(0.95)
    assert voted.success_within(1.0) == (0, *wilson(0, 4)), "no distances: no hit"
    queries, left = fact.curve()
    assert queries.tolist() == list(range(11))
    assert left.tolist() == [1, 1, 1, 0.75, 0.75, 0.75, 0.75, 0.75, 0.5, 0.5, 0.5]
    queries, left = voted.curve()
    assert queries.tolist() == [0, 5]
    assert left == pytest.approx([0.95, 0.95])
    assert voted.curve("answered")[1].tolist() == fact.curve()[1].tolist()


def test_unknown_verdicts_are_told_what_is_allowed(by_hand) -> None:
    result = by_hand(["budget"])
    with pytest.raises(ValueError, match='no verdict "votes" here; did you mean "vote"'):
        result.accuracy("votes")
    with pytest.raises(ValueError, match=r"allowed: answered, base, vote$"):
        result.curve("again")
    remembers = by_hand(["budget"] * 2, again=[0.0, 1.0], **VOTED)
    assert remembers.accuracy("again") == 0.5
    assert remembers.success("again")[0] == 0.5


@pytest.mark.parametrize("reason", ["error", "stalled", "no-start"])
def test_nothing_is_known_where_every_game_failed(by_hand, reason) -> None:
    result = by_hand([reason] * 3 + ["clean"], {0: {}, 10: {}}, error="ValueError: no")
    assert result.tells_nothing
    assert result.endings == {reason: 3}
    for number in (
        result.accuracy(),
        result.accuracy(at=10),
        result.success()[0],
        result.median_distance()[0],
    ):
        assert math.isnan(number)
    assert result.accuracy(at=0) == 0.75, "the clean images were judged"
    assert np.isnan(result.curve()[1][-1])
    assert result.first_error == ("ValueError: no" if reason == "error" else "")
    some = by_hand([reason, "budget"])
    assert not some.tells_nothing
    assert some.accuracy() == 1.0


def test_an_attacker_that_failed_after_its_hits_is_judged_by_them(by_hand) -> None:
    result = by_hand(["error"] * 2, answered=[True, False])
    assert result.accuracy() == 0.5


def test_nothing_is_known_where_nothing_was_played(by_hand) -> None:
    result = by_hand(["clean"] * 3, vote=[1.0] * 3)
    assert math.isnan(result.success("vote")[0])
    assert result.success("vote")[1:] == (0.0, 1.0)
    assert result.accuracy() == 0.0, "the classifier was wrong already"


def test_answers_outside_the_ball_and_early_ends_are_counted(by_hand) -> None:
    purposes = {"a": np.array([100, 0, 0, 1, 49]), "b": np.array([7, 0, 0, 0, 2])}
    assert by_hand(["budget"], purposes=purposes).outside == (51, 52)
    reasons = ["submitted", "hit", "submitted", "budget", "submitted"]
    played = by_hand(
        reasons,
        answered=[True, True, True, True, False],
        vote=[0.5, 0.1, 0.55, 0.1, 0.0],
        queries=[9, 3, 9, 10, 4],
        **VOTED,
    )
    assert played.lost_early == 3
    assert by_hand(reasons, queries=[9] * 5).lost_early == 0, "answers are facts"


def test_games_of_shards_come_in_the_match_s_order(by_hand) -> None:
    one, two = (
        by_hand(reasons, game=game).games for reasons, game in ((["hit", "budget"], [2, 1]), (["clean"], [0]))
    )
    joined = join_games([one, two])
    assert joined.reason == ["clean", "budget", "hit"]
    assert joined.game.tolist() == [0, 1, 2]
