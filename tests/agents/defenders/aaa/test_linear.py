from __future__ import annotations

import pytest
import torch

from agents.defenders.aaa.linear import AAALinear
from arena.rules.losses import margin


@pytest.mark.parametrize(
    ("original", "target"),
    [(0.05, 5.95), (1, 5), (3, 3), (5, 1), (5.95, 0.05), (8, 10), (0, 6), (6, 12), (12, 18)],
)
def test_target(original: float, target: float) -> None:
    """At the end of a cell the next begins: floor, not ceil."""
    assert AAALinear().target(torch.tensor([original])).item() == pytest.approx(target, abs=1e-6)


def test_target_with_other_parameters() -> None:
    m = torch.tensor([0.5, 1.5, 3.0, 4.5])  # attractors 1, 1, 3, 5 of tau = 2
    found = AAALinear(alpha=0.5, tau=2.0).target(m)
    assert torch.allclose(found, torch.tensor([1.25, 0.75, 3.0, 5.25]))


def test_target_is_never_negative() -> None:
    below = torch.nextafter(torch.arange(1, 500) * 6.0, torch.tensor(0.0))
    assert (AAALinear().target(torch.cat([below, torch.linspace(0, 60, 100_001)])) >= 0).all()


@pytest.mark.parametrize(
    ("original", "answered"),
    [(0.3, 2.085), (1, 2.791), (3, 3.0), (5, 1.087), (5.7, 0.957), (5.95, 0.947), (8, 10.026)],
)
def test_margin_answered(original: float, answered: float) -> None:
    """The optimum where calibration and margin conflict, reached or not in 100 steps (fact sheet, sec. 2)."""
    z = torch.tensor([[original, 0.0] + [-3.0] * 8])
    found, guarded = AAALinear().defend(z, 1.0)
    assert margin(found, torch.tensor([0])).item() == pytest.approx(answered, abs=0.05)
    assert not guarded.any()


def test_at_the_attractor_nothing_changes() -> None:
    z = torch.tensor([[3.0, 0.0] + [-3.0] * 8])
    assert torch.equal(AAALinear().defend(z, 1.0)[0], z)


def test_margins_are_reversed_within_a_cell() -> None:
    z = torch.full((20, 10), -3.0)
    z[:, 0], z[:, 1] = torch.linspace(8.0, 11.5, 20), 0.0
    answered = margin(AAALinear().defend(z, 1.0)[0], torch.zeros(20, dtype=torch.int64))
    assert (answered.diff() < 0).all()
