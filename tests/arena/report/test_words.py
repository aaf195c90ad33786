"""Numbers and rules as they are printed."""

from __future__ import annotations

import math

import pytest

from arena.league.rates import Rate
from arena.report import words
from arena.rules.threat import NamedNetwork, Threat


@pytest.mark.parametrize(
    ("norm", "value", "said"),
    [("linf", "8/255", "8/255"), ("linf", 0.15, "0.15"), ("l2", "8/255", "0.0314"), ("linf", 1.0, "1")],
)
def test_epsilon(norm, value, said):
    assert words.epsilon(Threat(norm=norm, epsilon=value, budget=1)) == said


def test_rules_name_what_is_out_of_the_ordinary():
    plain = Threat(epsilon="8/255", budget=2500)
    said = words.rules(plain, {2500, 500})
    assert said == (
        "ℓ∞, epsilon 8/255 · budget 500 or 2,500 queries · feedback logits · untargeted · objective first"
    )
    odd = plain.model_copy(update={"goal": "targeted", "accounts": 3, "knowledge": "defense"})
    assert words.rules(odd, {1}).endswith(
        "targeted (random) · objective first · 3 accounts · knowledge defense"
    )


def test_numbers():
    assert words.number(math.inf) == "∞"
    assert words.number(0.12345) == "0.123"
    assert words.number(math.nan) == words.percent(math.nan) == words.queries(math.nan) == words.NOTHING
    assert (words.queries(1234.56), words.queries(30.0)) == ("1,234.6", "30")
    assert words.percent(0.5) == "50.0"
    assert words.span(Rate(0.5, 0.123, 0.887)) == "[12, 89]"
    assert words.span(Rate(math.nan, 0, 1)) == ""
    assert words.duration(3725.4) == "1:02:05"


def test_rules_say_which_reference_networks_are_granted():
    sha = "0123456789abcdef"
    tables = [{"network": "one", "sha": sha}, {"network": "two"}]
    named = [NamedNetwork.model_validate(table) for table in tables]
    threat = Threat(epsilon="8/255", budget=10, knowledge="defense")
    said = words.rules(threat.with_surrogates(named), {10})
    assert said.endswith("knowledge defense+surrogates · 2 reference networks one (0123456789ab) and two")
    said = words.rules(Threat(epsilon=1.0, budget=10).with_surrogates(named[:1]), {10})
    assert said.endswith("knowledge surrogates · reference network one (0123456789ab)")
