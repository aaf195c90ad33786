from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.defenders.predcoin.keyed_hash import PredCoinHash
from arena import draws
from arena.conformance.defender_checks import check_defender


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(2000, 1, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.parametrize("defender", [PredCoinHash(gamma=0.0), PredCoinHash()], ids=str)
def test_conforms(defender: PredCoinHash) -> None:
    check_defender(defender)


def test_the_coin_is_philox_of_a_sum_in_whole_numbers(x: Tensor) -> None:
    words = draws.bits(draws.derive(7, "hash"), torch.arange(25), 0, 2).tolist()
    r = [(high << 32) + low for high, low in words]
    key = draws.derive(7, "coin")
    found = PredCoinHash(secret=7).uniform(x[:20])
    for image, coin in zip(x, found.tolist(), strict=False):
        h = sum(round(v * 2**24) * k for v, k in zip(image.flatten().tolist(), r, strict=True)) % 2**64
        counter = [torch.tensor([word]) for word in (h % 2**32, h // 2**32, 0, 0)]
        expected = draws.philox(tuple(counter), (key % 2**32, key >> 32))[0]  # type: ignore[arg-type]
        assert coin == int(expected) / 2**32


def test_coins_are_uniform_and_the_secrets_own(x: Tensor) -> None:
    one, other = (PredCoinHash(secret=s).uniform(x) for s in (1, 2))
    assert one.mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.corrcoef(torch.stack([one, other]))[0, 1].abs() < 0.1
    assert torch.equal(one, PredCoinHash(secret=1).uniform(x))


def test_the_least_change_of_an_image_tosses_another_coin(x: Tensor) -> None:
    near = x.clone()
    near[:, 0, 2, 2] += torch.where(near[:, 0, 2, 2] > 0.5, -(2.0**-23), 2.0**-23)
    coins = torch.stack([PredCoinHash().uniform(z) for z in (x, near)])
    assert torch.corrcoef(coins)[0, 1].abs() < 0.1


def test_the_coin_may_be_loaded(x: Tensor) -> None:
    defender = PredCoinHash(coin=0.2)
    assert defender.flips(x, None).float().mean().item() == pytest.approx(0.2, abs=0.03)  # type: ignore[arg-type]
    assert defender.flip_rate == 0.2
    with pytest.raises(ValueError, match="coin must be from 0 to 1; found -1"):
        PredCoinHash(coin=-1)
