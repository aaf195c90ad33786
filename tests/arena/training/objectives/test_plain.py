"""Cross-entropy, noise and distillation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from arena.training import RECIPES, Recipe, TrainingError, TrainingJob
from arena.training.objectives import (
    Circumstances,
    CrossEntropy,
    Distillation,
    GaussianNoise,
    TradesTraining,
)


class Linear(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(4, 3, generator=drawn))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return x.flatten(1) @ self.w


X, Y = torch.rand(500, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(500) % 3


def around(teacher: nn.Module | None = None) -> Circumstances:
    return Circumstances(torch.Generator().manual_seed(0), teacher=teacher)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_cross_entropy_at_a_temperature(temperature: float) -> None:
    model = Linear(1)
    loss, logits = CrossEntropy(temperature=temperature).lesson(model, X, Y, around())
    z = logits.detach().double() / temperature
    expected = (z.exp().sum(1).log() - z[torch.arange(500), Y]).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_noise_is_gaussian_and_new_at_each_step() -> None:
    model, objective, state = Linear(1), GaussianNoise(sigma=0.2), around()
    for _ in range(2):
        loss, logits = objective.lesson(model, X, Y, state)
        assert torch.allclose(loss, nn.functional.cross_entropy(logits, Y))
    first, second = ((seen - X).flatten() / 0.2 for seen in model.seen)
    assert abs(float(first.mean())) < 0.1 and float(first.std()) == pytest.approx(1, abs=0.05)
    assert abs(float((first * second).mean())) < 0.1


def test_distillation_is_least_where_the_student_answers_as_the_teacher() -> None:
    """-sum_k q_k log p_k: the loss less the teacher's entropy is KL(q || p), 0 for the same logits."""
    teacher, objective = Linear(1).eval(), Distillation(temperature=5.0)
    q = (teacher(X).detach().double() / 5).softmax(1)
    entropy = -(q * q.log()).sum(1).mean()
    same, _ = objective.lesson(Linear(1), X, Y, around(teacher))
    assert same.item() == pytest.approx(entropy.item(), rel=1e-6)
    other, logits = objective.lesson(Linear(2), X, Y, around(teacher))
    p = (logits.detach().double() / 5).softmax(1)
    assert (other - same).item() == pytest.approx((q * (q / p).log()).sum(1).mean().item(), rel=1e-3)


def test_a_taught_objective_needs_a_teacher(data) -> None:
    recipe = Recipe(objective=Distillation(temperature=5.0), rate=0.1, epochs=1)
    with pytest.raises(TrainingError, match='objective "distillation" needs a teacher'):
        TrainingJob("digits-cnn", data, recipe)


def test_a_plain_recipe_is_written_as_it_was_before_there_were_objectives() -> None:
    plain = RECIPES["digits"].recipe
    assert "objective" not in plain.model_dump(mode="json")
    trades = plain.changed({"objective": {"kind": "trades", "epsilon": 0.1, "step": 0.02, "steps": 3}})
    assert trades.objective == TradesTraining(epsilon=0.1, step=0.02, steps=3)
    assert Recipe.model_validate_json(trades.model_dump_json()) == trades
    assert trades.changed({"objective": {"beta": 1}}).objective == TradesTraining(
        epsilon=0.1, step=0.02, steps=3, beta=1
    )
    hot = plain.changed({"objective": {"kind": "cross-entropy", "temperature": 2.0}})
    assert hot.model_dump(mode="json")["objective"] == {"kind": "cross-entropy", "temperature": 2.0}


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ({"kind": "trade"}, "recipe: objective: found"),
        ({"kind": "trades", "epsilon": 0, "step": 1, "steps": 1}, "recipe: objective.epsilon: found 0"),
        ({"kind": "pgd", "epsilon": 1, "step": 1}, "recipe: objective.steps: this key is missing"),
        (
            {"kind": "pgd", "epsilon": 1, "step": 1, "steps": 1, "beta": 3},
            "recipe: objective.beta: there is no",
        ),
        ({"kind": "pgd", "epsilon": 1, "step": 1, "steps": 1, "norm": "l1"}, "recipe: objective.norm: found"),
        ({"kind": "gaussian-noise", "sigma": float("nan")}, "recipe: objective.sigma: found"),
    ],
)
def test_a_bad_objective_gets_a_sentence(objective: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingError) as caught:
        RECIPES["digits"].recipe.changed({"objective": objective})
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_images_through_the_network_are_counted() -> None:
    recipe = Recipe(objective=TradesTraining(epsilon=1, step=1, steps=7), rate=1, batch=50, epochs=3)
    assert recipe.images(120) == 3 * 120 * 10
    assert recipe.changed({"iterations": 4}).images(120) == (120 + 50) * 10
    assert Recipe(rate=1, batch=50, epochs=1).images(101) == 100  # the last image is left out
