from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from arena.training import Recipe
from arena.training.schedule import optimiser, scheduler

STEPS = 40


def rates(recipe: Recipe) -> list[float]:
    """The rate of each of 40 steps."""
    opt = optimiser(recipe, nn.ParameterList([nn.Parameter(torch.zeros(1))]))
    plan = scheduler(recipe, opt, STEPS)
    found = []
    for _ in range(STEPS):
        found.append(opt.param_groups[0]["lr"])
        opt.step()
        plan.step()
    return found


def test_constant() -> None:
    assert rates(Recipe(rate=0.2, epochs=1)) == [0.2] * STEPS


def test_step() -> None:
    recipe = Recipe(rate=1.0, epochs=1, schedule="step", milestones=(0.5, 0.75), factor=0.1)
    assert rates(recipe) == pytest.approx([1.0] * 20 + [0.1] * 10 + [0.01] * 10)


def test_cosine() -> None:
    """Loshchilov and Hutter 2017, eq. 5, with a lowest rate of 0 and one period."""
    recipe = Recipe(rate=2.0, epochs=1, schedule="cosine")
    expected = [1 + math.cos(math.pi * t / STEPS) for t in range(STEPS)]
    assert rates(recipe) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warmup_rises_linearly_to_the_rate(schedule: str) -> None:
    recipe = Recipe(rate=0.5, epochs=1, schedule=schedule, warmup=0.1)
    found = rates(recipe)
    assert found[:5] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])
    if schedule == "cosine":
        assert found[-1] == pytest.approx(0.25 * (1 + math.cos(math.pi * 35 / 36)))


def test_one_cycle() -> None:
    recipe = Recipe(rate=0.5, epochs=1, schedule="one-cycle")
    found = rates(recipe)
    assert found[0] == pytest.approx(0.5 / 25)
    assert max(found) == pytest.approx(found[11]) == pytest.approx(0.5)
    assert found[-1] == pytest.approx(0.5 / 250_000)


def test_no_schedule_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates(Recipe(rate=0.1, epochs=1, schedule="cosine", warmup=0.2))


def test_weight_decay_of_sgd_is_a_gradient_and_of_adamw_a_shrinking() -> None:
    """SGD: w <- w - rg', g' = g + dw; with Nesterov's momentum m: w - r(g' + mg'); AdamW: w(1 - rd) first."""
    w0, g, r, d, m = 2.0, 0.5, 0.1, 0.01, 0.9

    def after(recipe: Recipe) -> float:
        w = nn.Parameter(torch.tensor([w0], dtype=torch.float64))
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimiser(recipe, nn.ParameterList([w])).step()
        return w.item()

    decayed = g + d * w0
    assert after(Recipe(rate=r, epochs=1, weight_decay=d)) == pytest.approx(w0 - r * decayed)
    nesterov = Recipe(rate=r, epochs=1, weight_decay=d, momentum=m, nesterov=True)
    assert after(nesterov) == pytest.approx(w0 - r * (decayed + m * decayed))
    adam, adamw = (Recipe(optimiser=kind, rate=r, epochs=1, weight_decay=d) for kind in ("adam", "adamw"))
    assert after(adam) == pytest.approx(w0 - r, abs=1e-7)
    assert after(adamw) == pytest.approx(w0 * (1 - r * d) - r, abs=1e-7)
