from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from agents.defenders.aaa import descent
from agents.defenders.aaa.descent import LogitDescent, descend, top_probability

SETTINGS = {"beta": 5.0, "steps": 100, "lr": 0.1}


def problem(
    n: int, classes: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits [n,K] with their c, and t and p* [n] such as AAA-linear and a temperature of 1.5 give."""
    draw = torch.Generator().manual_seed(100 * classes + n)
    logits = 2 * torch.randn(n, classes, generator=draw, dtype=torch.float64)
    logits[:, 0] += 6 * torch.rand(n, generator=draw, dtype=torch.float64)
    top, two = logits.argmax(1), logits.topk(2).values
    margin = two[:, 0] - two[:, 1]
    t = (margin // 6) * 12 + 6 - margin
    confidence = (logits / 1.5).softmax(1).amax(1)
    return logits.to(dtype), top, t.to(dtype), confidence.to(dtype)


def loss(z: Tensor, top: Tensor, t: Tensor, confidence: Tensor, beta: float) -> Tensor:
    """Eq. 6, summed over the rows."""
    two = z.topk(2).values
    p = z.softmax(1).gather(1, top[:, None])[:, 0]
    return (two[:, 0] - two[:, 1] - t).abs().sum() + beta * (p - confidence).abs().sum()


def by_autograd(z: Tensor, *rest: Tensor, beta: float, steps: int, lr: float) -> Tensor:
    z = z.clone().requires_grad_(True)
    adam = torch.optim.Adam([z], lr=lr)
    for _ in range(steps):
        adam.zero_grad()
        loss(z, *rest, beta).backward()
        adam.step()
    return z.detach()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("classes", [2, 3, 10, 37, 1000])
def test_gradient_is_that_of_autograd(classes: int) -> None:
    z, _, t, confidence = problem(50, classes, torch.float64)
    top = torch.arange(50) % classes  # not only the largest
    point = z.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(loss(point, top, t, confidence, 5.0), point)
    found = LogitDescent(z, top, t, confidence, 5.0).gradient()
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_sign_of_zero_is_zero(beta: float) -> None:
    z = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    top, p = torch.tensor([0]), z.softmax(1)[:, 0]
    on_margin = LogitDescent(z, top, torch.tensor([2.0]), p + 0.1, beta).gradient()
    assert torch.equal(on_margin.sign(), torch.tensor([[-1.0, 1, 1, 1]]) * (beta > 0))
    on_both = LogitDescent(torch.zeros(1, 4), top, torch.zeros(1), torch.tensor([0.25]), beta).gradient()
    assert torch.equal(on_both, torch.zeros(1, 4))


def test_ties_go_to_the_lowest_index() -> None:
    z = torch.tensor([[0.0, 3, 3, 3], [3, 1, 2, 2], [1, 1, 1, 1]])
    found = LogitDescent(z, z.argmax(1), torch.full((3,), 9.0), torch.full((3,), 0.5), 0.0).gradient()
    assert torch.equal(found, torch.tensor([[0.0, -1, 1, 0], [-1, 0, 1, 0], [-1, 1, 0, 0]]))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_descent_is_torchs_adam_on_autograd(classes: int) -> None:
    given = problem(80, classes, torch.float64)
    assert (descend(*given, **SETTINGS) - by_autograd(*given, **SETTINGS)).abs().max() < 1e-9


def test_single_precision_follows_double() -> None:
    """But for rows that stand on a kink of the loss, where one rounding turns a step about."""
    double, single = (
        descend(*problem(500, 10, d), **SETTINGS).double() for d in (torch.float64, torch.float32)
    )
    far = (double - single).abs().amax(1) > 1e-3
    assert far.float().mean() < 0.02
    assert (double - single).abs().max() < 0.2


@pytest.mark.parametrize("classes", [2, 3, 10, 43, 100])
@pytest.mark.parametrize("cores", [1, 2, 3])
def test_a_row_is_the_same_bits_in_any_batch(classes: int, cores: int, threads: None) -> None:
    torch.set_num_threads(cores)
    settings = SETTINGS | {"steps": 30}
    given = problem(250, classes)
    whole = descend(*given, **settings)
    order = torch.randperm(250, generator=torch.Generator().manual_seed(0))
    assert torch.equal(descend(*(g[order] for g in given), **settings), whole[order])
    for size in (1, 2, 3, 7, 31, 32, 33, 65, 129):
        rows = order[:size]
        assert torch.equal(descend(*(g[rows] for g in given), **settings), whole[rows])


@pytest.mark.parametrize("cores", [1, 3])
def test_many_classes_in_pieces_are_the_same_bits(cores: int, threads: None) -> None:
    torch.set_num_threads(cores)
    settings = SETTINGS | {"steps": 10}
    given = problem(300, 1000)  # more than fit one piece
    whole = descend(*given, **settings)
    for rows in ([0], [299], list(range(255, 290))):
        assert torch.equal(descend(*(g[rows] for g in given), **settings), whole[rows])


def test_threads_do_not_cut_vectors(threads: None) -> None:
    """Seven do not divide these into whole vectors, and exp2 of what is left over has other last bits."""
    torch.set_num_threads(7)
    exponents = torch.linspace(-30, 0, 288 * 1000)
    powers = torch.empty_like(exponents)
    descent._exp2(descent._pieces(exponents, powers))
    assert torch.equal(powers, torch.cat([vector.exp2() for vector in exponents.split(32)]))


def test_pieces_do_not_change_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem(100, 10)
    whole = descend(*given, **SETTINGS)
    monkeypatch.setattr(descent, "_CELLS", {"cpu": 1})
    assert torch.equal(descend(*given, **SETTINGS), whole)


def test_no_step_leaves_the_logits() -> None:
    given = problem(20, 10)
    assert torch.equal(descend(*given, beta=5.0, steps=0, lr=0.1), given[0])
    assert descend(*(g[:0] for g in given), **SETTINGS).shape == (0, 10)


def test_arguments_are_left_as_they_are() -> None:
    for n in (1, 5):
        given = problem(n, 10)
        before = [g.clone() for g in given]
        descend(*given, **SETTINGS)
        assert all(torch.equal(g, b) for g, b in zip(given, before, strict=True))


@pytest.mark.parametrize("temperature", [0.001, 0.5, 1.0, 2.08, 1000.0])
def test_top_probability_is_softmax_at_a_temperature(temperature: float) -> None:
    for n in (1, 40):
        z, top, _, _ = problem(n, 10, torch.float64)
        expected = (z / temperature).softmax(1).amax(1)
        assert torch.allclose(top_probability(z, top, temperature), expected, rtol=1e-12)


def test_far_logits_do_not_overflow() -> None:
    z = torch.tensor([[3e38, -3e38, 0, 2e38], [1e4, -1e4, 9e3, 0]])
    found = descend(z, z.argmax(1), torch.full((2,), 3.0), torch.full((2,), 0.7), **SETTINGS)
    assert found.isfinite().all()
