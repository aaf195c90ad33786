from __future__ import annotations

import math
from dataclasses import replace

from arena.league.caps import Limits, caps_of, prices, undefended
from tests.arena.league.made import utility


def test_prices_are_measured_or_unknown() -> None:
    bare = utility(0.95, 1.0)
    whole = utility(0.9, cost_1=2.5, seconds_1=1e-3)
    found = prices(whole, bare)
    assert found["delay"] == 2.5 and math.isclose(found["accuracy"] or 0, 5)
    assert prices(utility(0.9, seconds_1=1e-3), bare)["delay"] == 1, "it answers as the classifier alone"
    assert prices(utility(0.9), bare)["delay"] is None
    assert prices(whole, None)["accuracy"] is None
    assert prices(whole, replace(bare, images=10))["accuracy"] is None, "of other images"
    assert prices(None, bare) == {"accuracy": None, "delay": None}


def test_the_undefended_accuracy_is_that_of_full_agreement() -> None:
    assert undefended({"a": utility(0.9, 0.99), "b": utility(0.93, 1.0)}) == utility(0.93, 1.0)
    assert undefended({"a": utility(0.9, 0.99)}) is None


def test_caps_are_those_that_are_set() -> None:
    priced = [{"accuracy": 1.0, "delay": 2.0}, {"accuracy": 0.0, "delay": None}]
    (cap,) = caps_of(Limits(accuracy=3), priced)
    assert cap.name == "accuracy" and cap.most == 3 and cap.price.tolist() == [1, 0]
    assert not caps_of(Limits(), priced)
