"""Shares of flagged queries."""

from __future__ import annotations

import math

import pytest

from arena.log.answers import PurposeCounts
from arena.report.detection import ESTIMATION, Detection, purposes_of
from arena.rules import purposes

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


def test_purposes_come_by_their_queries() -> None:
    other = Detection(
        (PurposeCounts("boundary-search", 70, 0, 0, 0, 0), PurposeCounts("start", 5, 0, 0, 0, 0))
    )
    assert purposes_of([ONE, other]) == ["boundary-search", "gradient", "candidate", "start"]
