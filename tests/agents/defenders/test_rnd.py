from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from agents.defenders.rnd import RND
from arena.conformance.defender_checks import check_defender


@pytest.mark.parametrize("defender", [RND(), RND(nu=0.05, clamp=False)], ids=str)
@pytest.mark.slow
@pytest.mark.conformance
def test_conforms(defender: RND) -> None:
    check_defender(defender)


@pytest.mark.parametrize("nu", [0.02, 0.05])
def test_nu_is_a_standard_deviation(nu: float, ask_as) -> None:
    x = torch.full((300, 3, 32, 32), 0.5)
    noise = RND(nu).transform(x, ask_as(range(300))) - x
    assert noise.std().item() == pytest.approx(nu, rel=0.005)
    assert noise.mean().item() == pytest.approx(0, abs=5 * nu / math.sqrt(noise.numel()))


def test_clamp_is_the_default(ask_as) -> None:
    x = torch.ones(50, 3, 8, 8)
    clamped, plain = (d.transform(x, ask_as(range(50))) for d in (RND(), RND(clamp=False)))
    assert plain.max() > 1
    assert torch.equal(clamped, plain.clamp(max=1))
    assert (clamped - 1).square().mean().item() == pytest.approx(0.02**2 / 2, rel=0.05)


def test_an_answer_is_the_same_bits_in_any_batch(service, ask_as, images: Tensor) -> None:
    oracle = service(RND(), seed=7)
    whole = oracle.respond(images, ask_as(range(150))).scores
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    assert torch.equal(oracle.respond(images[order], ask_as(order)).scores, whole[order])
    for i in (0, 64, 149):
        assert torch.equal(oracle.respond(images[i : i + 1], ask_as([i])).scores, whole[i : i + 1])
    assert torch.equal(service(RND(), seed=7).respond(images, ask_as(range(150))).scores, whole)


def test_every_query_and_seed_has_noise_of_its_own(service, ask_as, images: Tensor) -> None:
    oracle = service(RND())
    first = oracle.respond(images, ask_as(range(150))).scores
    assert (first != oracle.respond(images, ask_as(range(150), turn=2)).scores).any(dim=1).all()
    assert (first != service(RND(), seed=1).respond(images, ask_as(range(150))).scores).any(dim=1).all()


def test_it_is_random_and_keeps_no_memory() -> None:
    assert RND().random
    assert RND().memory == "none"
    assert RND().start((3, 1, 2, 2), 1, torch.device("cpu")) is None


@pytest.mark.parametrize("nu", [-0.02, math.inf, math.nan, 2000.0])
def test_wrong_parameters_are_named(nu: float) -> None:
    with pytest.raises(ValueError, match=f"^nu must be from 0 to 1000; found {nu}$"):
        RND(nu)
