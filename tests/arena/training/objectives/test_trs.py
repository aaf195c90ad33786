"""The TRS loss against closed forms, and its images of large gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from arena.training.errors import TrainingError
from arena.training.objectives import Circumstances, TRSTraining
from arena.training.objectives.trs import _steepest, magnitude


class Members(nn.Module):
    """Linear members, with a square in front, so that second derivatives are not 0."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.members = nn.ModuleList(Member(n) for n in range(count))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


class Member(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).square() @ self.weight.T


def batch() -> tuple[Tensor, Tensor]:
    x = torch.rand(5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return x, torch.tensor([0, 1, 2, 0, 1])


def around(epoch: int = 0) -> Circumstances:
    return Circumstances(torch.Generator().manual_seed(1), epoch)


def by_hand(weights: list[Tensor], x: Tensor, labels: Tensor, objective: TRSTraining) -> Tensor:
    """The loss with each gradient written out: d CE / dx = 2 x * ((p - onehot) W) / B."""
    flat = x.flatten(1)
    losses, slopes = [], []
    for weight in weights:
        logits = flat.square() @ weight.T
        p = logits.softmax(1)
        losses.append(-p[range(len(x)), labels].log().mean())
        slopes.append(2 * flat * ((p - torch.eye(3).double()[labels]) @ weight) / len(x))
    cosines = [
        ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).abs().mean()
        for a, b in ((slopes[0], slopes[1]), (slopes[0], slopes[2]), (slopes[1], slopes[2]))
    ]
    smooth = sum(2 * (g**2).sum(1).mean() for g in slopes) / 3
    added = objective.similarity * sum(cosines) / 3 + objective.smoothness * smooth
    return sum(losses) + objective.scale * added  # type: ignore[return-value]


def test_loss_and_gradients_are_those_of_the_formula() -> None:
    objective, model, (x, labels) = TRSTraining(similarity=1.5, smoothness=0.7, scale=3.0), Members(), batch()
    loss, logits = objective.lesson(model, x, labels, around())
    weights = [member.weight for member in model.members]  # type: ignore[union-attr]
    expected = by_hand(weights, x, labels, objective)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(value, [*model.parameters()]) for value in (loss, expected))
    torch.testing.assert_close(found, wanted)
    assert logits.shape == (5, 3)


def test_numbers_agree_with_finite_differences() -> None:
    objective, model, (x, labels) = TRSTraining(), Members(), batch()
    loss, _ = objective.lesson(model, x, labels, around())
    weight = next(model.parameters())
    (slope,) = torch.autograd.grad(loss, weight)
    with torch.no_grad():
        weight[1, 2] += 1e-6
    moved, _ = objective.lesson(model, x, labels, around())
    assert float((moved - loss).detach() / 1e-6) == pytest.approx(float(slope[1, 2]), rel=1e-4)


def test_half_of_the_images_are_moved_to_where_gradients_are_large() -> None:
    model, (x, labels) = Members(), batch()

    def slopes(at: Tensor) -> list[Tensor]:
        at = at.clone().requires_grad_(True)
        losses = [nn.functional.cross_entropy(member(at), labels) for member in model.members]
        return [torch.autograd.grad(loss, at)[0].flatten(1) for loss in losses]

    moved = _steepest([*model.members], x, labels, 0.2, torch.Generator().manual_seed(2))
    assert (moved - x).abs().max() <= 0.2 + 1e-12 and moved.min() >= 0 and moved.max() <= 1
    assert magnitude(slopes(moved)) > 1.2 * magnitude(slopes(x))
    plain, rising = TRSTraining(), TRSTraining(epsilon=0.1, last_epsilon=0.2, epochs=10)
    first, last = (rising.lesson(model, x, labels, around(epoch))[0] for epoch in (0, 9))
    assert plain.lesson(model, x, labels, around())[0] < first < last


def test_a_network_without_members_gets_one_sentence() -> None:
    x, labels = batch()
    with pytest.raises(TrainingError, match="trains members of a network against each other"):
        TRSTraining().lesson(Member(0), x, labels, around())
    assert math.isclose(TRSTraining(epsilon=0.1).passes, 5)
