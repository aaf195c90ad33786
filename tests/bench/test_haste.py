from __future__ import annotations

import numpy as np
import pytest

from arena.players.registry import build_attacker
from bench.haste import ATTACKERS, COIN, gain, rows


def test_a_gain_is_starred_where_its_interval_excludes_nothing_gained() -> None:
    before, after = np.zeros(40), np.ones(40)
    assert gain(after, before) == "1.00 [1.00, 1.00] *"
    assert gain(before, before) == "0.00 [0.00, 0.00]"


def test_every_attacker_named_can_be_built_and_may_go_on() -> None:
    assert set(COIN) <= set(ATTACKERS)
    for spec in ATTACKERS.values():
        assert {"submit", "minimum"} & set(build_attacker(spec).needs.objectives)


@pytest.mark.slow
def test_an_attacker_is_measured_under_each_objective_that_it_plays() -> None:
    square, _, walk, _ = rows(3, 20, ["square", "sign-flip"])
    assert [square["defender"], walk["defender"]] == ["snd 0.05", "snd 0.01"]
    assert "gain" in square
    assert "gain at minimum" not in square
    assert {"gain", "gain at minimum"} <= set(walk)
