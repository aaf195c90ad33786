"""Shares of won games and their intervals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arena.metrics import wilson
from arena.result import Result
from arena.threat import Threat


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
