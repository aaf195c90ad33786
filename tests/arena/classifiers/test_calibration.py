from __future__ import annotations

import pytest
import torch
from scipy import optimize

from arena import statistics
from arena.classifiers.calibration import ece, nll_temperature, temperature_grid


def test_ece_of_known_confidences() -> None:
    """Nine of ten right at confidence 0.7: off by 0.2; half right at 0.9: off by 0.4."""
    p = torch.tensor([0.7] * 10 + [0.9] * 4, dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()], dim=1)
    labels = torch.tensor([0] * 9 + [1] + [0, 0, 1, 1])
    assert ece(logits, labels) == pytest.approx((10 * 0.2 + 4 * 0.4) / 14)
    assert ece(logits + 50, labels) == pytest.approx(ece(logits, labels))


def test_ece_is_that_of_metrics() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(500, 7), torch.randint(0, 7, (500,))
    confidence, predicted = logits.softmax(1).max(1)
    expected = statistics.ece(confidence.numpy(), (predicted == labels).numpy(), bins=11)
    assert ece(logits.requires_grad_(), labels, bins=11) == pytest.approx(expected, abs=1e-6)


def test_ece_refuses_logits_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="confidence"):
        ece(torch.tensor([[float("nan"), 1.0]]), torch.tensor([0]))


def test_temperatures_are_aaas() -> None:
    grid = temperature_grid()
    assert len(grid) == 1999
    assert (grid.diff() > 0).all()
    assert 1.0 in grid.tolist()
    assert torch.allclose(grid, 1 / grid.flip(0), rtol=1e-12)
    assert (grid[0].item(), grid[-1].item()) == pytest.approx((0.001, 1000))
    tuned = torch.tensor([2.08333, 1.20482, 1.26582, 1.1236, 0.94, 0.431, 0.58, 0.83], dtype=torch.float64)
    assert ((grid[:, None] - tuned).abs().amin(0) < 1e-4).all()


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_of_the_likelihood_is_where_scipy_finds_it(scale: float) -> None:
    draw = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(800, 6, generator=draw, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=draw)[:, 0]

    def loss(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits * scale / temperature, labels).item()

    found = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9})
    assert nll_temperature(logits * scale, labels) == pytest.approx(found.x, rel=1e-5)
    assert nll_temperature(logits * scale, labels) == pytest.approx(scale, rel=0.15)


def test_the_temperature_of_the_likelihood_is_1_where_no_temperature_is_best() -> None:
    """All right, as the packaged digits: the smaller T, the likelier. All least likely: the larger."""
    logits = torch.tensor([[4.0, 1, 0], [0, 2, 1]])
    assert nll_temperature(logits, torch.tensor([0, 1])) == 1
    assert nll_temperature(logits, torch.tensor([2, 0])) == 1
    assert nll_temperature(logits.repeat(9, 1), torch.tensor([0, 1] * 8 + [1, 1])) not in (1, 0.001, 1000)
