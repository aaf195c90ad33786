"""Shares of won games and their intervals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arena.records.result import Result
from arena.rules.threat import Threat
from arena.statistics import median_interval, wilson


def _near() -> Result:
    """Four played games and a clean one, of which the first got nearer after query 3."""
    rest = {"linf": np.full(5, 9.0), "answered": np.asarray([True, True, False, True, True])}
    vote = np.asarray([0.5, 1.0, 0.2, 0.25, 1.0])
    end: Any = SimpleNamespace(
        reason=["budget"] * 4 + ["clean"], l2=np.asarray([1.0, 2.0, np.nan, 3.0, 0.0]), vote=vote, **rest
    )
    then: Any = SimpleNamespace(l2=np.asarray([2.5, 2.0, np.nan, 3.0, 0.0]), vote=vote / 2, **rest)
    threat = Threat(norm="l2", epsilon=5, budget=5, objective="minimum")
    return Result(threat, np.zeros((5, 1, 1, 1), np.float32), end, {3: then}, [])


def test_the_median_distance_counts_played_games_and_no_hit_as_infinite() -> None:
    assert _near().median_distance() == (2.5, 0, np.inf)
    assert _near().median_distance(3) == (2.75, 0, np.inf)
    with pytest.raises(KeyError, match="no verdicts were reported at 4 queries"):
        _near().median_distance(4)
    many: Any = SimpleNamespace(reason=["budget"] * 40, l2=np.arange(40.0))
    threat = Threat(norm="l2", epsilon="inf", budget=5, objective="minimum")
    result = Result(threat, np.zeros((40, 1, 1, 1), np.float32), many, {}, [])
    assert result.median_distance() == (19.5, *median_interval(np.arange(40.0)))


def test_success_within_a_radius_goes_by_the_verdict_of_near_images() -> None:
    result = _near()
    assert result.success_within(2.0) == pytest.approx((2 / 4, *wilson(2, 4)))
    assert result.success_within(2.0, at=3) == pytest.approx((1 / 4, *wilson(1, 4)))
    assert result.success_within(2.0, "vote") == pytest.approx((1.5 / 4, *wilson(1.5, 4)))
    assert result.success_within(2.5, "vote", at=3) == pytest.approx((0.75 / 4, *wilson(0.75, 4)))
    assert result.success_within(np.inf, "vote")[0] == pytest.approx(1.75 / 4)
    assert result.success_within(2.0 - 5e-7)[0] == 0.5, "the slack of a ball"


def _result(**columns: Any) -> Result:
    games: Any = SimpleNamespace(**columns)
    return Result(Threat(epsilon=1, budget=5), np.zeros((3, 1, 1, 1), np.float32), games, {}, [])


def test_votes_count_with_their_shares_over_played_games() -> None:
    result = _result(reason=["first", "budget", "clean"], vote=np.asarray([0.5, 1.0, 1.0]))
    assert result.success("vote") == pytest.approx((0.75, *wilson(1.5, 2)))


def test_the_interval_of_equal_votes_does_not_collapse() -> None:
    rate, low, high = _result(reason=["budget"] * 3, vote=np.full(3, 0.4)).success("vote")
    assert rate == pytest.approx(0.4)
    assert low < 0.2 < 0.7 < high


def test_nothing_is_known_where_nothing_was_played() -> None:
    assert _result(reason=["clean"] * 3, vote=np.ones(3)).success("vote") == (0.0, 0.0, 1.0)
