from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize
from torch import Tensor

from agents.defenders.aaa.exact import LEAST_REST, AAAExact, water_level
from agents.defenders.aaa.linear import AAALinear
from agents.defenders.aaa.sine import AAASine
from arena.rules.losses import margin
from arena.rules.outcome import labels_of

FORMS = pytest.mark.parametrize("form", ["linear", "sine"])


def logits(n: int, classes: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(n, classes, generator=draw)
    z[torch.arange(n), torch.randint(classes, (n,), generator=draw)] += 8 * torch.rand(n, generator=draw)
    return z


def loss(scores: Tensor, z: Tensor, defender: AAAExact, temperature: float) -> Tensor:
    """|m(z) - t| + beta |p_c(z) - p*| of answers [n,K] to logits z [n,K]."""
    top, s = z.argmax(1), scores.double()
    t = defender.target(margin(z, top)).double()
    aim = (z.double() / temperature).softmax(1).amax(1)
    p = s.softmax(1).gather(1, top[:, None])[:, 0]
    return (margin(s, top) - t).abs() + defender.beta * (p - aim).abs()


@FORMS
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.08])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_its_loss_is_no_more_than_that_of_adam(form: Any, classes: int, temperature: float) -> None:
    z, defender = logits(300, classes), AAAExact(form)
    adam = (AAALinear if form == "linear" else AAASine)()
    own = loss(defender.defend(z, temperature)[0], z, defender, temperature)
    other = loss(adam.defend(z, temperature)[0], z, defender, temperature)
    assert (own <= other + 1e-3).float().mean() >= 0.94
    assert own.mean() < other.mean()


@FORMS
@pytest.mark.parametrize("beta", [1.0, 5.0, 12.0])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_no_margin_and_no_rest_are_better(form: Any, classes: int, beta: float) -> None:
    """Against a fine grid over m >= .05 and R in [0, K - 2], on which all of the loss depends."""
    z, defender = logits(40, classes, seed=1), AAAExact(form, beta=beta)
    found = loss(defender.defend(z, 1.3)[0], z, defender, 1.3)
    t = defender.target(margin(z, z.argmax(1))).double().numpy()
    aim = (z.double() / 1.3).softmax(1).amax(1).numpy()
    m = np.linspace(0.05, 14, 2000)[:, None]
    rest = (
        np.geomspace(LEAST_REST, max(classes - 2, LEAST_REST), 60)[None] if classes > 2 else np.zeros((1, 1))
    )
    p = 1 / (1 + (1 + rest) * np.exp(-m))
    for row in range(len(z)):
        least = (abs(m - t[row]) + beta * abs(p - aim[row])).min()
        assert found[row] <= least + 2e-3


@FORMS
def test_where_it_can_both_terms_vanish(form: Any) -> None:
    z, defender = logits(400, 10), AAAExact(form)
    found = loss(defender.defend(z, 1.0)[0], z, defender, 1.0)
    t, aim = defender.target(margin(z, z.argmax(1))).double(), z.double().softmax(1).amax(1)
    wanted = t.exp() * (1 / aim - 1) - 1
    can = (wanted > LEAST_REST) & (wanted < 8)
    assert 0.1 < can.float().mean() < 1
    assert found[can].max() < 1e-4


def test_the_margin_of_two_classes_has_adams_floor() -> None:
    """ln(.7236 / .2764) at beta 5, where the target is lower and p* higher."""
    z = torch.tensor([[5.7, 0.0] + [-30.0] * 8])
    answer, _ = AAAExact(temperature=1.0).defend(z, 1.0)
    assert margin(answer, torch.tensor([0])).item() == pytest.approx(0.9624, abs=1e-3)


def test_the_water_level_is_the_root() -> None:
    draw = np.random.default_rng(0)
    gaps = -draw.exponential(3, (200, 9))
    gaps[:50, 4:7] = gaps[:50, 4:5]
    wanted = draw.uniform(1e-3, 6.999, 200)
    given = torch.from_numpy(gaps).clone()
    given[:, [0, 1]] = -math.inf
    found = water_level(given, torch.from_numpy(wanted))
    for row in range(200):
        others = gaps[row, 2:]
        root = optimize.brentq(lambda s: np.minimum(np.exp(others + s), 1).sum() - wanted[row], -40, 60)  # noqa: B023
        assert found[row].item() == pytest.approx(root, abs=1e-6)


@FORMS
@pytest.mark.parametrize("temperature", [0.3, 1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 3, 100])
def test_labels_stay_and_no_class_passes_the_second(form: Any, classes: int, temperature: float) -> None:
    z = logits(300, classes)
    answer, _ = AAAExact(form).defend(z, temperature)
    assert torch.equal(answer.argmax(1), z.argmax(1))
    second = z.topk(2, dim=1).values[:, 1]
    torch.testing.assert_close(answer.topk(2, dim=1).values[:, 1], second)


_WIDE, _USUAL = st.floats(-(2.0**100), 2.0**100, width=32), st.floats(-20, 20, width=32)


@given(
    z=arrays.arrays(
        "float32",
        st.tuples(st.integers(1, 5), st.integers(2, 7)),
        elements=_WIDE | _USUAL | st.sampled_from([0.0, 6.0]),
    ),
    temperature=st.sampled_from([0.001, 0.7, 1.0, 1000.0]),
    form=st.sampled_from(["linear", "sine"]),
)
def test_finite_logits_have_finite_answers_and_their_labels(z: Any, temperature: float, form: Any) -> None:
    scores = torch.from_numpy(z)
    answer, _ = AAAExact(form).defend(scores, temperature)
    assert answer.isfinite().all()
    assert torch.equal(labels_of(answer), labels_of(scores))


@FORMS
@pytest.mark.parametrize("classes", [2, 10, 257])
def test_an_answer_is_the_same_bits_in_any_batch(form: Any, classes: int) -> None:
    defender, z = AAAExact(form), logits(133, classes)
    z[5], z[77, 1] = math.nan, math.inf
    whole, guarded = defender.defend(z, 1.7)
    order = torch.randperm(133, generator=torch.Generator().manual_seed(3))
    for rows in (order, *order[:20].view(-1, 1), order[:3], order[50:83]):
        answer, flags = defender.defend(z[rows], 1.7)
        assert torch.equal(answer.nan_to_num(7.0), whole[rows].nan_to_num(7.0))
        assert torch.equal(flags, guarded[rows])


def test_square_finds_less(square) -> None:
    assert square("aaa-exact") > square("none") + 0.3


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"alpha": 1.01},
            "alpha must be above 0 and at most 1.0, above which margins aimed at",
        ),
        ({"form": "sine", "alpha": 0.74}, "alpha must be above 0 and at most 0.7326"),
        ({"alpha": math.nan}, "alpha must be above 0"),
        ({"tau": 0.0}, "tau must be finite and above 0; found 0.0"),
        ({"beta": -1.0}, "beta must be finite and at least 0; found -1.0"),
        ({"beta": math.inf}, "beta must be finite and at least 0; found inf"),
        ({"temperature": 0.0}, "temperature must be finite and above 0; found 0.0"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        AAAExact(**parameters)
