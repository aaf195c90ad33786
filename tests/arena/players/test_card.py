from __future__ import annotations

from typing import Any

import pytest

from arena.players import Attacker
from arena.players.card import PLACES, Card
from arena.players.registry import agent_class, names, where_written

GOOD: dict[str, Any] = {"alters": ("input",), "paper": "Somebody, 2020", "claims": "much"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"alters": "input"}, "alters must be a tuple of weights, input"),
        ({"alters": ("pixels",)}, "found ('pixels',)"),
        ({"paper": " "}, "paper must be a text that is not empty"),
        ({"claims": None}, "claims must be a text"),
        ({"broken_by": "square"}, "broken_by must be a tuple of names of attackers"),
        ({"broken_by": (Attacker,)}, "broken_by must be a tuple"),
    ],
)
def test_a_card_says_what_is_wrong_with_it(wrong: dict[str, Any], said: str) -> None:
    assert Card(**GOOD).broken_by == ()
    with pytest.raises(ValueError) as caught:
        Card(**GOOD | wrong)
    assert said in str(caught.value)


def test_every_packaged_defender_has_one_that_names_packaged_attackers() -> None:
    attackers = set(names("attacker"))
    for name in names("defender"):
        if where_written("defender", name)[1]:
            card = agent_class("defender", name).card  # type: ignore[attr-defined]
            assert isinstance(card, Card), name
            assert set(card.broken_by) <= attackers, name
            assert len(set(card.alters)) == len(card.alters) and set(card.alters) <= set(PLACES)
