"""Sign Flip: what each query may be, how its steps adapt, and what a plane is known to allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import arena
from agents.attackers.decision.sign_flip import SignFlip, SignFlipWalk
from arena.rules.threat import Threat

SHAPE = (1, 10, 10)


def rules(norm="linf", budget=600, **more):
    given = {"norm": norm, "epsilon": math.inf, "budget": budget, "feedback": "label", "objective": "minimum"}
    return Threat(**(given | more))


@pytest.mark.parametrize(("norm", "bounds"), [("linf", (2.6, 1.35)), ("l2", (3.5, 1.4))])
def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary, norm, bounds):
    found, result = flat_boundary((1, 8, 8), 6).ratios(SignFlip(), norm, 800, (200,))
    assert all(1 - 1e-6 <= ratio < bound for ratio, bound in zip(found, bounds, strict=True)), found
    assert found[1] < found[0] - 0.1
    assert result.base.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_query_is_a_projection_or_a_flip_of_the_last_success(referee, flat_boundary, norm):
    """Replayed from what was asked: the radius or length of each projection tells alpha."""
    boundary, alpha, shrink = flat_boundary(SHAPE, 1), 0.004, 0.01 / 0.004
    table = referee(boundary.answer, boundary.images, torch.zeros(1).long(), rules(norm))
    asked = table.play(SignFlip(init_draws=99)).asked[0]
    purposes = table.purposes(0)
    start = purposes.index("candidate")
    assert purposes[start - 11 : start] == ["start"] + ["boundary-search"] * 10
    assert set(purposes[start:]) == {"candidate"}

    x0 = boundary.images[0].double()
    delta = next(x.double() - x0 for x, _, z in reversed(asked[:start]) if z[1] > z[0])
    size = (lambda v: v.abs().max()) if norm == "linf" else (lambda v: v.norm())
    won, clipped = [0, 0], 0
    for n, (x, _, z) in enumerate(asked[start:]):
        step, iteration = n % 2, n // 2
        new = x.double() - x0
        inside = bool(((x > 0) & (x < 1)).all())
        clipped += not inside
        if inside and step == 0:
            r = float(size(delta))
            a = min(alpha, r / 2) if norm == "linf" else alpha * shrink * r
            assert float(size(new)) == pytest.approx(r - a, abs=3e-7)
            added = new * (1 if norm == "linf" else 1 / (1 - a / r)) - delta
            largest = 2 * alpha if norm == "linf" else 3 * alpha
            assert float(added.abs().max()) < largest + 1e-6
        elif inside:
            torch.testing.assert_close(new.abs(), delta.abs(), atol=3e-7, rtol=0)
        if z[1] > z[0]:
            won[step] += 1
            delta = new
        if step == 1 and (iteration + 1) % 10 == 0:
            alpha *= 1.5 if won[0] > 7 else 1 / 1.5 if won[0] < 3 else 1
            won = [0, 0]
    assert clipped < 50


@pytest.fixture
def walk(referee, linear):
    """walk(delta, norm, **options): a game's Walk on the perturbation `delta` [C,H,W]."""

    def make(delta, norm="linf", **options):
        shape = tuple(delta.shape)
        x0 = torch.full((1, *shape), 0.5)
        table = referee(linear(shape), x0, torch.zeros(1).long(), rules(norm))
        return SignFlipWalk(SignFlip(**options), table.seat, x0 + delta)

    return make


ONE = torch.tensor([0])


def test_a_projection_follows_the_formula(walk):
    delta = torch.tensor([[[0.1, -0.1, 0.05], [0.0, 0.098, -0.02]]])
    u = torch.tensor([[[[0.1, 0.1, 0.9], [0.9, 0.1, 0.1]]]])  # below 1/2: +1
    linf = walk(delta, alpha=0.004)
    expected = torch.tensor([[[[0.096, -0.096, 0.046], [-0.004, 0.096, -0.016]]]])
    torch.testing.assert_close(linf.project(ONE, u, linf.step(ONE)), expected, atol=1e-7, rtol=0)
    l2 = walk(delta, "l2", alpha=0.004, shrink_l2=0.01)
    moved = delta + 0.004 * torch.tensor([[[1.0, 1, -1], [-1, 1, 1]]])
    expected = (moved * (0.99 * delta.norm() / moved.norm())).unsqueeze(0)
    torch.testing.assert_close(l2.project(ONE, u, l2.step(ONE)), expected, atol=1e-7, rtol=0)


def test_a_step_never_takes_more_than_half_of_what_is_left(walk):
    """The authors' radius turns negative and makes all pixels alike."""
    delta = torch.tensor([[[0.1, -0.1], [0.05, 0.0]]])
    linf = walk(delta, alpha=0.5)
    shrunk = linf.project(ONE, torch.rand(1, 1, 2, 2), linf.step(ONE))
    assert float(shrunk.abs().max()) == pytest.approx(0.05)
    assert shrunk[0, 0, 0].tolist() == pytest.approx([0.05, -0.05])
    l2 = walk(delta, "l2", alpha=0.004, shrink_l2=0.9)
    l2.alpha *= 100
    shrunk = l2.project(ONE, torch.rand(1, 1, 2, 2), l2.step(ONE))
    assert float(shrunk.norm()) == pytest.approx(float(delta.norm()) / 2)


def test_a_sign_that_upsampling_averages_to_nothing_is_kept(walk):
    """The middle of 5 pixels lies half way between 2 cells."""
    delta = torch.rand(1, 5, 5) * 0.1
    state = walk(delta, factor=2)
    assert state.keep.shape == (1, 1, 2, 2)
    flipped = state.flip(ONE, torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]]))[0]
    torch.testing.assert_close(flipped[..., :3], (0.5 + delta - 0.5)[..., :3])
    torch.testing.assert_close(flipped[..., 3:], -(0.5 + delta - 0.5)[..., 3:])


def test_steps_and_probabilities_adapt_as_the_authors(walk):
    state = walk(torch.full((1, 1, 2), 0.1), keep=0.995)
    state.learn(ONE, torch.tensor([[[[1.0, -1.0]]]]))
    torch.testing.assert_close(state.keep, torch.tensor([[[[0.9949, 0.9951]]]]))
    for projections, flips, factor, change in [(8, 2, 1.5, 1e-3), (7, 3, 1.0, 0.0), (2, 8, 1 / 1.5, -1e-3)]:
        before, keep = float(state.alpha), state.keep.clone()
        state.successes[0], state.successes[1] = projections, flips
        state.adapt(ONE)
        assert float(state.alpha) == pytest.approx(before * factor)
        torch.testing.assert_close(state.keep, keep + change)
        assert not state.successes.any()
    for _ in range(20):
        state.successes[1] = 10
        state.adapt(ONE)
    assert state.keep.tolist() == [[[[pytest.approx(0.99)] * 2]]]


def test_flips_are_as_rare_as_the_probability_says(referee, images):
    """Nothing succeeds after the start: the probability to keep a sign climbs to its upper limit."""
    x0 = images(2, (3, 40, 40), low=0.5, high=0.5)

    def model(x, game, turn):
        return torch.stack([torch.zeros(len(x)), (turn <= 11) * 2.0 - 1], dim=1)

    table = referee(model, x0, torch.zeros(2).long(), rules(budget=51)).play(SignFlip(keep=0.99))
    delta = table.queries(0) - 0.5
    base, flips = delta[10], delta[12::2]
    turned = (flips * base < 0).flatten(1).float().mean(dim=1)
    assert turned[:10].mean() == pytest.approx(0.01, rel=0.2)
    assert turned[10:].mean() == pytest.approx(0.009, rel=0.2)


def test_targeted_it_starts_from_the_image_given(flat_boundary):
    boundary = flat_boundary(SHAPE, 4)
    w = boundary.w.float() / boundary.w.abs().max()
    own = torch.stack([(0.5 + s * w).clamp(0, 1) for s in (0.3, 0.4, 0.5)])
    result = arena.play(
        SignFlip(),
        classifier=boundary,
        images=boundary.images,
        labels=torch.zeros(4).long(),
        resources=(own, torch.ones(3).long()),
        threat=rules(budget=300, goal="targeted", resources={"starts": True}),
        at=(1,),
    )
    assert (result.marks[300].linf < 0.5 * result.marks[1].linf).all()
    assert (result.marks[300].linf >= boundary.least["linf"].numpy() - 1e-6).all()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.2), ("l2", 1.2)])
@pytest.mark.slow
def test_more_digits_fall_with_more_queries(norm, epsilon):
    from pathlib import Path

    from arena.classifiers import ClassifierSpec, load_classifier
    from arena.datasets import DatasetSpec, load_dataset

    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    run = arena.play(
        SignFlip(),
        classifier=load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu")),
        images=data.games.take(slice(0, 20)),
        labels=data.games.labels[:20],
        threat=rules(norm, 300, epsilon=epsilon),
        at=(40,),
    )
    assert run.accuracy(at=40) > run.accuracy(at=300) + 0.2
    assert set(np.array(run.reason)[run.played]) <= {"budget", "no-start"}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"alpha": 0.0}, "alpha must be finite and above 0; found 0.0"),
        ({"shrink_l2": 1.0}, "shrink_l2 must be above 0 and below 1; found 1.0"),
        ({"keep": 0.5}, "keep must be from 0.99 to 0.9999; found 0.5"),
        ({"factor": 0}, "factor must be at least 1; found 0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        SignFlip(**option)
