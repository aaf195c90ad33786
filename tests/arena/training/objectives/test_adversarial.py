"""PGD and TRADES: the ball, the ascent, and the losses against formulas by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from arena.training.objectives import Circumstances, Perturbing, PGDTraining, TradesTraining, evaluating
from arena.training.objectives.trades import START, divergence

NORMS = ("linf", "l2")


def around(seed: int = 0) -> Circumstances:
    return Circumstances(torch.Generator().manual_seed(seed))


class Curved(nn.Module):
    """A small network with BatchNorm and dropout, which tells its modes apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten())
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4 * 16, 3)
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        logits: Tensor = self.head(self.drop(self.body(x)))
        return logits


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    return torch.rand(16, 1, 4, 4, generator=drawn), torch.randint(3, (16,), generator=drawn)


def distance(moved: Tensor, x: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm((moved - x).flatten(1), ord=2 if norm == "l2" else math.inf, dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_stays_in_the_ball_and_raises_the_loss(norm: str, batch: tuple[Tensor, Tensor]) -> None:
    (x, labels), model = batch, Curved().eval()
    ball = Perturbing(norm=norm, epsilon=0.3, step=0.1, steps=10)  # type: ignore[arg-type]

    def loss(at: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(at), labels, reduction="sum")

    start = ball.anywhere(x, around().generator)
    worst = ball.ascend(x, start, loss)
    for moved in (start, worst):
        assert (distance(moved, x, norm) <= 0.3 + 1e-6).all() and moved.min() >= 0 and moved.max() <= 1
    assert not worst.requires_grad
    before, begun, after = (
        nn.functional.cross_entropy(model(at), labels, reduction="none").detach() for at in (x, start, worst)
    )
    assert (after > before).all() and after.mean() > begun.mean() + 0.05


def test_a_step_goes_by_the_sign_or_along_the_gradient() -> None:
    x, w = torch.full((2, 1, 1, 2), 0.5), torch.tensor([3.0, -4.0])
    for norm, expected in (("linf", [0.1, -0.1]), ("l2", [0.06, -0.08])):
        ball = Perturbing(norm=norm, epsilon=1, step=0.1, steps=1)  # type: ignore[arg-type]
        moved = ball.ascend(x, x, lambda at: (at * w).sum())
        assert torch.allclose((moved - x)[:, 0, 0], torch.tensor([expected, expected]), atol=1e-6)


def test_starts_are_uniform_in_the_l2_ball() -> None:
    """P(r <= t) = (t/epsilon)^d: r^d/epsilon^d is uniform."""
    ball = Perturbing(norm="l2", epsilon=0.01, step=1, steps=1)
    x = torch.full((4000, 1, 2, 2), 0.5)
    share = (distance(ball.anywhere(x, around().generator), x, "l2") / 0.01).double().pow(4).sort().values
    assert (share - torch.linspace(0, 1, 4000)).abs().max() < 1.63 / math.sqrt(4000)


def test_pgds_loss_is_taken_in_training_mode_at_images_found_in_eval_mode(
    batch: tuple[Tensor, Tensor],
) -> None:
    (x, labels), model = batch, Curved().train()
    objective = PGDTraining(epsilon=0.2, step=0.1, steps=3)
    statistics = model.body[1].num_batches_tracked.clone()  # type: ignore[union-attr,operator]
    loss, logits = objective.lesson(model, x, labels, around())
    assert model.modes == [False] * 3 + [True] and model.training
    assert model.body[1].num_batches_tracked == statistics + 1
    assert torch.allclose(loss, nn.functional.cross_entropy(logits, labels))
    assert objective.passes == len(model.modes)
    torch.autograd.backward(loss)
    assert all(p.grad is not None for p in model.parameters())


def test_trades_loss_is_the_papers(batch: tuple[Tensor, Tensor]) -> None:
    """CE(x) + beta/B sum_i KL(p(x_i) || p(x'_i)) in float64, by hand; x' from x + .001 N(0, I)."""
    (x, labels), model = batch, Curved().train()
    model.drop.p = 0.0
    objective = TradesTraining(epsilon=0.2, step=0.07, steps=4, beta=2.5)
    twin = Curved().train()
    twin.drop.p = 0.0
    loss, logits = objective.lesson(model, x, labels, around(5))
    assert model.modes == [False] * 5 + [True] * 2 and objective.passes == len(model.modes)

    moved = x + START * torch.randn(x.shape, generator=around(5).generator)
    with evaluating(twin):
        p = twin(x).softmax(1).detach()
        for _ in range(4):
            moved.requires_grad_(True)
            kl = (p * (p.log() - twin(moved).log_softmax(1))).sum()
            (slope,) = torch.autograd.grad(kl, moved)
            moved = (moved + 0.07 * slope.sign()).detach()
            moved = torch.clamp(x + (moved - x).clamp(-0.2, 0.2), 0, 1)
    z, near = twin(x).double(), twin(moved).double()
    probability = z.exp() / z.exp().sum(1, keepdim=True)
    other = near.exp() / near.exp().sum(1, keepdim=True)
    cross = -probability[torch.arange(16), labels].log().mean()
    expected = cross + 2.5 / 16 * (probability * (probability / other).log()).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(logits.double(), z, atol=1e-5)


def test_divergence_is_not_negative_and_0_for_the_same() -> None:
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    assert float(divergence(z.softmax(1), z + 7)) == pytest.approx(0, abs=1e-6)
    assert float(divergence(z.softmax(1), z.flip(0))) > 0.1


def test_evaluating_gives_each_part_its_mode_back() -> None:
    model = Curved().train()
    model.drop.eval()
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert model.training and model.head.training and not model.drop.training
