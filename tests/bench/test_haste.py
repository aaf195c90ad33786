"""The benchmark of attackers that go on."""

from __future__ import annotations

import numpy as np

from bench.haste import ATTACKERS, gain, rows


def test_an_attacker_that_goes_on_asks_more_and_is_compared_with_its_first_hits() -> None:
    assert "square" in ATTACKERS
    first, *_ = rows(games=8, budget=40, only=["square"])
    assert first["attacker"] == "square"
    assert first["defender"] == "snd 0.05"
    before, after = map(float, str(first["queries"]).split(" / "))
    assert before < after <= 40
    assert 0 <= float(str(first["first hit"])) <= 1
    assert "minimum" not in first, "Square does not play that objective"


def test_a_gain_is_starred_where_its_interval_excludes_nothing() -> None:
    assert gain(np.ones(20), np.zeros(20)).endswith("*")
    assert not gain(np.tile([0.0, 1.0], 10), np.tile([1.0, 0.0], 10)).endswith("*")
