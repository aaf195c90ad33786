"""Bars along clean images: the right ones, within the width, and what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arena.evaluation.reliability import Reliability
from arena.report.reliability_terminal import reliability_lines

RISING = tuple(np.linspace(0, 1, 80).tolist())


@pytest.fixture
def utility(hand: Any) -> Any:
    return replace(hand.utility(), reliability=Reliability(RISING, RISING, RISING[::-1]))


def test_bars_rise_with_the_probability_and_fall_with_the_accuracy(utility: Any) -> None:
    line, *said = reliability_lines([("none", utility)], 200)
    first, second = line.split("; accuracy ")
    bars = first.removeprefix("probability ").partition(",")[0]
    assert len(bars) == 40 and bars == "".join(sorted(bars)) and (bars[0], bars[-1]) == ("▁", "█")
    assert second.partition("  ")[0] == bars[::-1] and second.endswith("  none")
    assert "moved by   0.0" in line and len(said) == 2


def test_missing_bins_are_blank_and_lines_fit(utility: Any) -> None:
    bins = Reliability((0.5,) * 96, (None,) * 48 + (0.75,) * 48, RISING)
    line, *_ = reliability_lines([("aaa-linear", replace(utility, reliability=bins))], 80)
    bars = line.removeprefix("probability ").partition(",")[0]
    assert 8 <= len(bars) < 40 and abs(2 * bars.count(" ") - len(bars)) <= 1
    assert bars == " " * bars.count(" ") + "▆" * bars.count("▆")
    assert "moved by  25.0" in line and len(line) <= 80


def test_where_no_bins_are_known_nothing_is_said(hand: Any) -> None:
    assert reliability_lines([("none", hand.utility())], 80) == []
