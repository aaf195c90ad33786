"""Margins and cross-entropies against their definitions in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.rules.losses import attack_loss, margin

ROW = st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4)
LABELLED = st.lists(st.tuples(ROW, st.integers(0, 3)), min_size=1, max_size=4)


def batch(rows: list[tuple[list[float], int]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([r for r, _ in rows]), torch.tensor([y for _, y in rows])


@given(LABELLED)
def test_margin_is_own_score_less_the_best_other(rows: list[tuple[list[float], int]]) -> None:
    scores, label = batch(rows)
    expected = [torch.tensor(r[y]) - torch.tensor(max(s for k, s in enumerate(r) if k != y)) for r, y in rows]
    assert torch.equal(margin(scores, label), torch.stack(expected))


@given(LABELLED)
def test_margin_loss_turns_its_sign_for_a_target(rows: list[tuple[list[float], int]]) -> None:
    scores, label = batch(rows)
    for logits in (True, False):
        own = attack_loss(scores, label, "margin", targeted=False, logits=logits)
        assert torch.equal(own, margin(scores, label))
        assert torch.equal(attack_loss(scores, label, "margin", targeted=True, logits=logits), -own)


@given(LABELLED, st.booleans())
def test_cross_entropy_of_logits_is_the_log_of_the_softmax(
    rows: list[tuple[list[float], int]], targeted: bool
) -> None:
    scores, label = batch(rows)
    expected = []
    for r, y in rows:
        top = max(r)
        expected.append(r[y] - top - math.log(sum(math.exp(s - top) for s in r)))
    found = attack_loss(scores, label, "cross-entropy", targeted=targeted, logits=True)
    sign = -1 if targeted else 1
    torch.testing.assert_close(found.double() * sign, torch.tensor(expected).double(), rtol=1e-5, atol=1e-5)


@given(LABELLED)
def test_cross_entropy_of_probabilities_agrees_with_that_of_logits(
    rows: list[tuple[list[float], int]],
) -> None:
    scores, label = batch(rows)
    scores = scores / 5  # so that no probability vanishes
    from_logits = attack_loss(scores, label, "cross-entropy", targeted=False, logits=True)
    found = attack_loss(scores.softmax(dim=1), label, "cross-entropy", targeted=False, logits=False)
    torch.testing.assert_close(found, from_logits, rtol=1e-4, atol=1e-4)


def test_losses_stay_finite_where_a_probability_vanishes() -> None:
    y = torch.tensor([1])
    hidden = attack_loss(torch.tensor([[1.0, 0.0]]), y, "cross-entropy", targeted=False, logits=False)
    assert hidden.item() == pytest.approx(math.log(torch.finfo(torch.float32).tiny))
    sure = attack_loss(torch.tensor([[1e4, -1e4]]), y, "cross-entropy", targeted=False, logits=True)
    assert sure.item() == -2e4


def test_margin_does_not_write_to_the_scores() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    margin(scores, torch.tensor([2]))
    assert scores.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_anywhere_in_a_row_gives_nan_there_alone(where: int) -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    scores[0, where] = math.nan
    found = margin(scores, torch.tensor([1, 1]))
    assert found[0].isnan()
    assert found[1] == -1


def test_margin_of_infinite_logits_and_of_one_class() -> None:
    assert margin(torch.tensor([[math.inf, 0.0]]), torch.tensor([0])).item() == math.inf
    assert margin(torch.tensor([[-math.inf, 0.0]]), torch.tensor([0])).item() == -math.inf
    assert margin(torch.tensor([[2.5]]), torch.tensor([0])).item() == 2.5


def test_margin_is_differentiable() -> None:
    scores = torch.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
    margin(scores, torch.tensor([1])).sum().backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.tolist() == [[0, 1, -1]]
