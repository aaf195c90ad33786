"""The label scout's tests on planted counts: noise, fair coins, parities, and classifiers."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.attackers.parts.diagnosis import ALPHA
from agents.attackers.parts.label_diagnosis import is_coin, is_parity, mixed, won

ASKED = 5


def counts(share: Tensor, seed: int = 0) -> Tensor:
    """Of `ASKED` answers, how many are wrong where that happens with probability `share` [n]."""
    draws = torch.rand(ASKED, len(share), generator=torch.Generator().manual_seed(seed))
    return (draws < share).sum(dim=0)


def test_mixed_answers() -> None:
    assert mixed(torch.tensor([0, 1, 4, 5]), ASKED).tolist() == [False, True, True, False]


def test_wrong_answers_are_counted_row_by_row() -> None:
    assert won(torch.tensor([True, False, True, True, True, False]), 3).tolist() == [2, 2]
    assert won(torch.zeros(0, dtype=torch.bool), 3).tolist() == []


def test_coins_are_told_from_noise() -> None:
    assert is_coin(counts(torch.full((200,), 0.5)), ASKED)
    spread = torch.linspace(0, 1, 200)
    mistaken = sum(is_coin(counts(spread, seed), ASKED) for seed in range(300)) / 300
    assert mistaken <= ALPHA + 0.03
    assert not is_coin(torch.tensor([0, 5, 0]), ASKED)
    assert not is_coin(torch.zeros(0, dtype=torch.int64), ASKED)


def test_a_parity_answers_the_same_query_alike_and_its_neighbours_not() -> None:
    same = counts(torch.tensor([0.0, 1.0]).repeat(20))
    coins, calm = counts(torch.full((40,), 0.5)), same
    assert is_parity(same, coins, ASKED)
    assert not is_parity(same, calm, ASKED)
    assert not is_parity(coins, coins, ASKED)  # the same query is answered otherwise: no parity
    assert not is_parity(same[:0], same[:0], ASKED)


def test_a_boundary_that_runs_between_them_by_chance_is_no_parity() -> None:
    same = torch.zeros(80, dtype=torch.int64)
    beside = same.clone()
    beside[:4] = 2
    assert not is_parity(same, beside, ASKED)
