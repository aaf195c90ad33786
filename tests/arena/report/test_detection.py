"""Shares of flagged queries."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arena.log import questions
from arena.log.answers import PurposeCounts
from arena.report.detection import ESTIMATION, Detection, purposes_of, read_detection
from arena.rules import purposes
from arena.rules.threat import Threat
from arena.statistics import wilson

ONE = Detection(
    (
        PurposeCounts("gradient", 80, 0, 60, 0, 0),
        PurposeCounts("boundary-search", 15, 0, 3, 0, 0),
        PurposeCounts("candidate", 5, 0, 1, 0, 0),
    )
)


def test_estimation_is_what_attackers_call_so() -> None:
    assert purposes.ESTIMATION == ESTIMATION


def test_shares_are_of_the_queries_with_a_purpose() -> None:
    assert ONE.share(["boundary-search"]) == pytest.approx(0.2)
    assert ONE.estimation == pytest.approx(61 / 85)
    assert ONE.share() == pytest.approx(64 / 100)
    assert ONE.flagged == 64
    assert math.isnan(ONE.share(["start"])) and math.isnan(Detection(()).share())


def test_one_query_a_game_counts_every_game_alike(hand: Any, game: Any, asked: Any, threat: Threat) -> None:
    """Game 0 sends 40 estimation queries, of which the first 30 are flagged; game 1 sends two, of which none
    is; game 2 none at all."""
    other = replace(asked("candidate", 2, 0), game=np.ones(2, np.int64))
    queries = [asked("gradient", 40, 30), asked("start", 9, 9, 41), other]
    run = hand.run()
    rules = {"threat": threat.model_copy(update={"budget": 60}), "at": (30, 40)}
    match = hand.match(run, game(0), game(1), game(2), queries=queries, **rules)
    logged = next(m for m in questions.matches(hand.log, run) if m.id == match)
    one = read_detection(hand.log, logged).of_one
    assert list(one) == [30, 40, 60]
    assert [rate.value for rate in one.values()] == pytest.approx([0.5, 0.375, 0.375])
    assert (one[30].low, one[30].high) == pytest.approx(wilson(1, 2))
    assert read_detection(hand.log, logged).estimation == pytest.approx(30 / 42)


def test_one_query_a_game_needs_every_query(hand: Any, game: Any, asked: Any) -> None:
    run = hand.run()
    for number, (level, flagged) in enumerate((("changes", 4), ("queries", 0))):
        hand.match(run, game(0), number=number, level=level, queries=[asked("gradient", 4, flagged)])
    for logged in questions.matches(hand.log, run):
        assert read_detection(hand.log, logged).of_one == {}


def test_purposes_come_by_their_queries() -> None:
    other = Detection(
        (PurposeCounts("boundary-search", 70, 0, 0, 0, 0), PurposeCounts("start", 5, 0, 0, 0, 0))
    )
    assert purposes_of([ONE, other]) == ["boundary-search", "gradient", "candidate", "start"]
