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


@pytest.mark.parametrize("coin", [0.0, 1.0])
def test_a_sure_coin_is_refused(coin: float) -> None:
    """Nothing is drawn, so an image would count as answered alike: the rules differ by the turn."""
    with pytest.raises(ValueError, match=f"coin must be above 0 and below 1.*; found {coin}"):
        PredCoinAlternate(coin=coin)
    assert PredCoinAlternate(coin=0.9).random


@pytest.mark.parametrize("n", [1, 2.5, 10**30])
def test_parity_every_is_checked(n: Any) -> None:
    with pytest.raises(
        ValueError, match=f"parity_every must be a whole number from 2 to 4294967295; found {n}"
    ):
        PredCoinAlternate(parity_every=n)
