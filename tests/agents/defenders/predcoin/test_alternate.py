from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agents.defenders.predcoin.alternate import PredCoinAlternate
from agents.defenders.predcoin.conv_parity import ConvParity
from agents.defenders.predcoin.predcoin import PredCoin
from arena.conformance.defender_checks import check_defender
from arena.conformance.tiny_worlds import tiny_world


@pytest.mark.slow
@pytest.mark.conformance
def test_conforms() -> None:
    check_defender(PredCoinAlternate(gamma=0.0))


@pytest.mark.parametrize("n", [2, 3])
def test_every_nth_query_of_a_game_goes_by_parity(n: int, ask_as: Callable[..., Any]) -> None:
    place = tiny_world(0, "cpu")
    defender = PredCoinAlternate(gamma=0.0, parity_every=n).fit(place.classifier, place)
    parity = ConvParity(gamma=0.0).fit(place.classifier, place)
    x = place.split("games", 40).images
    for turn in range(1, 2 * n + 1):
        rows = ask_as(range(40), turn)
        rule = parity if turn % n == 0 else PredCoin()
        other = PredCoin() if turn % n == 0 else parity
        assert torch.equal(defender.flips(x, rows), rule.flips(x, rows))
        assert not torch.equal(defender.flips(x, rows), other.flips(x, rows))


def test_the_share_of_flips_is_that_of_both_rules() -> None:
    assert PredCoinAlternate(coin=0.2, parity_every=3).flip_rate == pytest.approx((0.2 * 2 + 0.5) / 3)


def test_parity_every_is_checked() -> None:
    with pytest.raises(ValueError, match="parity_every must be at least 2; found 1"):
        PredCoinAlternate(parity_every=1)
