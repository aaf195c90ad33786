from __future__ import annotations

import math

import pytest
import torch

from agents.defenders.aaa.sine import AAASine
from arena.rules.losses import margin


@pytest.mark.parametrize(
    ("original", "target"),
    [
        (0.05, 0.2698),
        (0.3, 1.5979),
        (1, 4.6373),
        (3, 3),
        (5, 1.3627),
        (5.7, 4.4021),
        (5.95, 5.7302),
        (8, 11.6373),
        (0, 0),
        (6, 6),
    ],
)
def test_target(original: float, target: float) -> None:
    assert AAASine().target(torch.tensor([original])).item() == pytest.approx(target, abs=1e-4)


def test_target_is_continuous() -> None:
    target = AAASine().target(torch.linspace(0, 30, 30_001))
    assert target.diff().abs().max() < 0.006


def test_the_trend_is_reversed_about_the_attractor_only() -> None:
    """Where |w| < arccos(1 / (2 pi alpha)) tau / (2 pi) = .2135 tau."""
    m = torch.linspace(6, 12, 6001, dtype=torch.float64)
    falls = AAASine().target(m).diff() < 0
    reversed_ = m[:-1][falls] - 9
    assert reversed_.min().item() == pytest.approx(-0.2135 * 6, abs=0.003)
    assert reversed_.max().item() == pytest.approx(0.2135 * 6, abs=0.003)


@pytest.mark.parametrize(("alpha", "touches"), [(0.7, False), (0.7326, True)])
def test_the_largest_alpha_is_where_the_target_touches_zero(alpha: float, touches: bool) -> None:
    m = torch.linspace(0.5, 5.9, 50_001, dtype=torch.float64)
    least = AAASine(alpha=alpha).target(m).min().item()
    assert (0 <= least < 1e-3) == touches
    w = m - 3
    assert (m - 0.733 * 6 * torch.sin(2 * math.pi * w / 6)).min() < 0


@pytest.mark.parametrize(
    ("original", "answered"), [(0.3, 1.588), (1, 2.791), (5, 1.404), (5.7, 4.405), (8, 11.623)]
)
def test_margin_answered(original: float, answered: float) -> None:
    z = torch.tensor([[original, 0.0] + [-3.0] * 8])
    found, guarded = AAASine().defend(z, 1.0)
    assert margin(found, torch.tensor([0])).item() == pytest.approx(answered, abs=0.05)
    assert not guarded.any()
