from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from agents.defenders.snd import SND, symmetric_beta
from arena import draws
from arena.conformance.defender_checks import check_defender

CIFAR = (3, 32, 32)


def noise(defender: SND, ask_as, n: int = 300, shape: tuple[int, ...] = CIFAR, level: float = 0.5) -> Tensor:
    x = torch.full((n, *shape), level)
    return defender.transform(x, ask_as(range(n))) - x


@pytest.mark.parametrize("defender", [SND(), SND(beta=2.0), SND(clamp=True)], ids=str)
@pytest.mark.slow
@pytest.mark.conformance
def test_conforms(defender: SND) -> None:
    check_defender(defender)


@pytest.mark.parametrize(("sigma", "norm"), [(0.001, 0.0554), (0.01, 0.554), (0.02, 1.108)])
def test_norm_of_the_noise_at_cifar_size(sigma: float, norm: float, ask_as) -> None:
    """sigma sqrt(3072), each norm with a standard deviation of sigma / sqrt(2)."""
    found = noise(SND(sigma), ask_as).flatten(1).norm(dim=1).mean().item()
    assert found == pytest.approx(norm, abs=5 * sigma / math.sqrt(2 * 300) + 0.001 * norm)


def test_noise_is_standard_normal_times_sigma(ask_as) -> None:
    draws = (noise(SND(), ask_as, 20) / 0.01).flatten()
    assert stats.kstest(draws.numpy(), "norm").pvalue > 0.01


def test_clamp_clips_and_the_default_does_not(ask_as) -> None:
    plain, clamped = (noise(SND(clamp=c), ask_as, level=1.0) for c in (False, True))
    assert plain.max() > 0
    assert torch.equal(clamped, plain.clamp(max=0))
    assert clamped.square().mean().item() == pytest.approx(0.01**2 / 2, rel=0.02)


@pytest.mark.parametrize("a", [0.05, 0.5, 1.0, 2.0, 7.5, 300.0])
def test_beta_draws_follow_the_law(a: float) -> None:
    drawn = symmetric_beta(a, draws.uniform(3, torch.arange(20_000), 1, (2,))).double().numpy()
    assert ((drawn >= 0) & (drawn <= 1)).all()
    # Kolmogorov and Smirnov's distance at 1 %, where float32 tells draws from 0 and 1.
    x = np.linspace(1e-6, 1 - 1e-6, 2001)
    found = np.searchsorted(np.sort(drawn), x, side="right") / len(drawn)
    assert abs(found - stats.beta(a, a).cdf(x)).max() < 1.63 / math.sqrt(len(drawn))


def test_beta_of_the_extreme_uniforms_is_finite() -> None:
    edge = torch.tensor([0.0, 2.0**-24, 0.25, 0.5, 1 - 2.0**-24])
    for a in (1e-3, 0.5, 2.0, 1e4):
        drawn = symmetric_beta(a, torch.cartesian_prod(edge, edge))
        assert ((drawn >= 0) & (drawn <= 1)).all()


@pytest.mark.parametrize("a", [0.3, 0.5, 0.7, 2.0, 5.0])
def test_beta_draws_are_the_same_bits_in_any_batch(a: float) -> None:
    uniform = draws.uniform(4, torch.arange(500), 1, (2,))
    whole = symmetric_beta(a, uniform)
    for size in (1, 3, 17, 33, 150):
        assert torch.equal(torch.cat([symmetric_beta(a, u) for u in uniform.split(size)]), whole)


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0])
def test_beta_scales_the_noise_of_a_query_as_one(a: float, ask_as) -> None:
    with_beta, without = (noise(SND(beta=b), ask_as, 2000, (1, 8, 8)).flatten(1) for b in (a, None))
    scale = (with_beta * without).sum(1) / without.square().sum(1)
    assert torch.allclose(with_beta, scale[:, None] * without, atol=1e-6)
    assert stats.kstest(scale.clamp(0, 1).numpy(), stats.beta(a, a).cdf).pvalue > 0.01


@pytest.mark.parametrize("defender", [SND(), SND(beta=0.5, clamp=True)], ids=str)
def test_an_answer_is_the_same_bits_in_any_batch(defender: SND, service, ask_as, images: Tensor) -> None:
    oracle = service(defender, seed=7)
    whole = oracle.respond(images, ask_as(range(150))).scores
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    assert torch.equal(oracle.respond(images[order], ask_as(order)).scores, whole[order])
    for i in (0, 64, 149):
        assert torch.equal(oracle.respond(images[i : i + 1], ask_as([i])).scores, whole[i : i + 1])
    assert torch.equal(service(defender, seed=7).respond(images, ask_as(range(150))).scores, whole)


def test_every_query_game_and_seed_has_noise_of_its_own(service, ask_as, images: Tensor) -> None:
    x = images[:1].expand(5, -1, -1, -1)
    oracle = service(SND())
    first = oracle.respond(x, ask_as(range(5))).scores
    for other in (
        oracle.respond(x, ask_as(range(5), turn=2)),
        service(SND(), seed=1).respond(x, ask_as(range(5))),
        oracle.fresh(x, ask_as(range(5))),
    ):
        assert (first != other.scores).any(dim=1).all()
    assert len(first.unique(dim=0)) == 5


def test_it_is_random_and_keeps_no_memory(service, ask_as, images: Tensor) -> None:
    assert SND().random
    assert SND().memory == "none"
    oracle = service(SND())
    first = oracle.respond(images, ask_as(range(150))).scores
    oracle.commit(torch.ones(150, dtype=torch.bool))
    assert torch.equal(oracle.respond(images, ask_as(range(150))).scores, first)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"sigma": -0.1}, "sigma must be from 0 to 1000; found -0.1"),
        ({"sigma": math.nan}, "sigma must be from 0 to 1000; found nan"),
        ({"sigma": 1e38}, r"sigma must be from 0 to 1000; found 1e\+38"),
        ({"beta": 0.0}, "beta must be finite and above 0, or not given; found 0.0"),
        ({"beta": math.inf}, "beta must be finite and above 0, or not given; found inf"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        SND(**parameters)
