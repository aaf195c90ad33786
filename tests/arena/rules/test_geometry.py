"""Distances, projections and quantisation against float64, and against what the Referee calls inside."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from arena.rules.geometry import digests, distance, distances, project, quantise, reach
from arena.rules.threat import TOLERANCE, Norm

PIXELS = npst.arrays("float32", (3, 2, 2, 3), elements=st.floats(0, 1, width=32))
FAR = npst.arrays("float32", (3, 2, 2, 3), elements=st.floats(-3, 3, width=32))
NORMS = st.sampled_from(["l2", "linf"])


def exact(x: Tensor, x0: Tensor, norm: Norm) -> Tensor:
    delta = (x.double() - x0.double()).flatten(1)
    return delta.square().sum(dim=1).sqrt() if norm == "l2" else delta.abs().amax(dim=1)


@given(FAR, PIXELS)
def test_distances_are_those_of_float64(x: Any, x0: Any) -> None:
    x, x0 = torch.from_numpy(x), torch.from_numpy(x0)
    l2, linf = distances(x, x0)
    torch.testing.assert_close(l2.double(), exact(x, x0, "l2"), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(linf.double(), exact(x, x0, "linf"), rtol=1e-7, atol=1e-7)
    assert torch.equal(distance(x, x0, "l2"), l2)
    assert torch.equal(distance(x, x0, "linf"), linf)


def test_l2_of_a_large_image_is_measured_to_float32_precision() -> None:
    x = torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    error = distance(x, torch.zeros_like(x), "l2").double() / exact(x, torch.zeros_like(x), "l2") - 1
    assert error.abs().max() < 4e-7


def test_distances_change_no_image() -> None:
    x, x0 = torch.full((1, 1, 2, 2), 0.25), torch.full((1, 1, 2, 2), 0.75)
    distances(x, x0), distance(x, x0, "linf")
    assert x.eq(0.25).all()
    assert x0.eq(0.75).all()


def test_no_images_have_no_distances() -> None:
    none = torch.zeros(0, 3, 4, 4)
    assert [list(d.shape) for d in distances(none, none)] == [[0], [0]]
    assert project(none, none, "l2", 1.0).shape == none.shape


@given(FAR, PIXELS, NORMS, st.floats(1e-3, 4))
def test_projection_lies_in_ball_and_box_and_stays(x: Any, x0: Any, norm: Norm, epsilon: float) -> None:
    x, x0 = torch.from_numpy(x), torch.from_numpy(x0)
    once = project(x, x0, norm, epsilon)
    assert once.min() >= 0
    assert once.max() <= 1
    assert (distance(once, x0, norm).double() <= epsilon + TOLERANCE).all()
    again = project(once, x0, norm, epsilon)
    assert torch.equal(again, once) if norm == "linf" else torch.allclose(again, once, rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 224, 224)])
@pytest.mark.parametrize("epsilon", [0.5, 2, 5, 20])
def test_l2_projection_of_large_images_is_inside_for_the_referee(
    shape: tuple[int, ...], epsilon: float
) -> None:
    draws = torch.Generator().manual_seed(0)
    x0 = torch.rand(8, *shape, generator=draws) * 0.2 + 0.4
    x = x0 + torch.randn(8, *shape, generator=draws) * 0.3
    inside = distance(project(x, x0, "l2", epsilon), x0, "l2").double()
    assert (inside <= epsilon + TOLERANCE).all()


@given(FAR, PIXELS, st.floats(1e-3, 2))
def test_linf_projection_is_the_nearest_point(x: Any, x0: Any, epsilon: float) -> None:
    x, x0 = torch.from_numpy(x), torch.from_numpy(x0)
    low, high = (x0.double() - epsilon).clamp_min(0), (x0.double() + epsilon).clamp_max(1)
    expected = torch.maximum(torch.minimum(x.double(), high), low)
    torch.testing.assert_close(project(x, x0, "linf", epsilon).double(), expected, rtol=0, atol=1.2e-7)


@given(FAR, PIXELS, st.floats(1e-3, 4))
def test_l2_projection_scales_to_the_ball_then_clips(x: Any, x0: Any, epsilon: float) -> None:
    x, x0 = torch.from_numpy(x), torch.from_numpy(x0)
    delta = x.double() - x0.double()
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)
    expected = (x0.double() + delta * (epsilon / length).clamp_max(1)).clamp(0, 1)
    torch.testing.assert_close(project(x, x0, "l2", epsilon).double(), expected, rtol=0, atol=5e-6)


@given(FAR, PIXELS, NORMS)
def test_infinite_ball_is_the_box(x: Any, x0: Any, norm: Norm) -> None:
    x, x0 = torch.from_numpy(x), torch.from_numpy(x0)
    assert torch.equal(project(x, x0, norm, math.inf), x.clamp(0, 1))


@given(PIXELS, PIXELS, NORMS)
def test_what_is_inside_comes_back_unchanged(x: Any, x0: Any, norm: Norm) -> None:
    x, x0 = torch.from_numpy(x), torch.from_numpy(x0)
    assert torch.equal(project(x, x0, norm, 4.0 if norm == "l2" else 1.0), x)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_projection_writes_to_no_image(norm: Norm) -> None:
    x, x0 = torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 0.75)
    project(x, x0, norm, 0.1)
    project(x0, x0, norm, 0.1).zero_()
    assert x.eq(2).all()
    assert x0.eq(0.75).all()


LEVELS = torch.arange(256, dtype=torch.float32).div(255).view(-1, 1, 1, 1)


@pytest.mark.parametrize("how", ["round", "floor"])
@pytest.mark.parametrize("steps", [0, 1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("sign", [1, -1])
def test_levels_moved_by_whole_steps_keep_their_level(how: Any, steps: int, sign: int) -> None:
    """All k/255 -+ s/255, computed in float32 in three ways; without its guard, floor loses some."""
    level = torch.arange(256) + sign * steps
    kept = ((level >= 0) & (level <= 255)).view(-1, 1, 1, 1)
    expected = level.clamp(0, 255)
    step = torch.tensor(steps / 255)
    for x in (
        LEVELS + sign * steps / 255,
        LEVELS + sign * step,
        project(LEVELS + sign, LEVELS, "linf", steps / 255),
    ):
        found = (quantise(x, how) * 255).round().long().flatten()
        assert torch.equal(found[kept.flatten()], expected[kept.flatten()])


@given(PIXELS)
def test_quantised_images_are_levels_and_stay(x: Any) -> None:
    x = torch.from_numpy(x)
    for how, expected in (
        ("round", (x.double() * 255).round()),
        ("floor", (x.double() * 255 + 1e-3).floor()),
    ):
        found = quantise(x, how)  # type: ignore[arg-type]
        away = ((x.double() * 255 + (0.5 if how == "round" else 1e-3)) % 1).sub(0.5).abs() < 0.4999
        assert torch.equal((found.double() * 255).round()[away], expected.clamp(0, 255)[away])
        assert torch.isin(found, LEVELS.flatten()).all()
        assert torch.equal(quantise(found, how), found)  # type: ignore[arg-type]
    assert torch.equal(quantise(x, "none"), x)


def test_quantising_writes_to_no_image() -> None:
    x = torch.full((1, 1, 2, 2), 0.3)
    quantise(x, "round"), quantise(x, "floor")
    assert x.eq(torch.tensor(0.3)).all()


@given(
    seed=st.integers(0, 2**31),
    norm=st.sampled_from(["l2", "linf"]),
    how=st.sampled_from(["round", "floor"]),
    epsilon=st.floats(0.005, 2.0),
)
def test_what_is_projected_is_inside_after_quantisation(
    seed: int, norm: Any, how: Any, epsilon: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x0 = quantise(torch.rand(4, 3, 6, 6, generator=generator), how)
    x = x0 + epsilon * torch.randn(4, 3, 6, 6, generator=generator)
    sent = project(x, x0, norm, epsilon, how)
    assert (sent >= 0).all() and (sent <= 1).all()
    assert (distance(quantise(sent, how), x0, norm) <= epsilon + TOLERANCE).all()
    if norm == "linf" and epsilon >= 1 / 255:
        up = x > x0
        far = project(torch.where(up, x0 + 9, x0 - 9), x0, norm, epsilon, how)
        room = torch.where(up, 1 - x0, x0).clamp_max(reach("linf", epsilon, how))
        torch.testing.assert_close((quantise(far, how) - x0).abs(), room, rtol=0, atol=1e-6)


def moved(levels: int) -> tuple[Tensor, Tensor]:
    """All pairs [n,1,1,1] of 8-bit images whose pixels lie so many levels apart."""
    return LEVELS[levels:], LEVELS[: 256 - levels]


@given(
    levels=st.integers(0, 255),
    away=st.one_of(st.sampled_from([0.0, -1e-6, 1e-6]), st.floats(-2e-6, 2e-6), st.floats(0, 1 / 255)),
    how=st.sampled_from(["round", "floor"]),
)
def test_the_reach_is_the_most_levels_that_the_referee_accepts(levels: int, away: float, how: Any) -> None:
    epsilon = max(levels / 255 + away, 1e-9)
    found = reach("linf", epsilon, how) * 255
    most = round(found)
    assert found == pytest.approx(most, abs=1e-9)
    for x, x0 in (moved(most), moved(most)[::-1]):
        assert (distance(x, x0, "linf").double() <= epsilon + TOLERANCE).all()
        sent = project(torch.where(x > x0, x0 + 9, x0 - 9), x0, "linf", epsilon, how)
        if most:
            assert torch.equal(quantise(sent, how), x)
    if most < 255:
        assert (distance(*moved(most + 1), "linf").double() > epsilon + TOLERANCE).any()


@pytest.mark.parametrize("how", ["round", "floor"])
def test_an_epsilon_rounded_to_seven_decimals_keeps_its_level(how: Any) -> None:
    """.0313725 is a little less than 8/255, within the Referee's tolerance."""
    for levels in range(1, 256):
        for epsilon in (levels / 255, math.floor(levels / 255 * 1e7) / 1e7):
            assert reach("linf", epsilon, how) == levels / 255


def test_in_l2_a_change_of_a_whole_level_keeps_it_where_epsilon_was_rounded_down() -> None:
    x0 = torch.full((1, 1, 2, 2), 100 / 255)
    x = x0.clone()
    x[0, 0, 0, 0] += 8 / 255
    assert torch.equal(quantise(project(x, x0, "l2", 0.0313725, "round"), "round"), quantise(x, "round"))


def test_digests_are_equal_for_equal_images_alone_and_in_any_batch() -> None:
    x = torch.rand(300, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    close = x.clone()
    close[:, 1, 2, 3] = torch.nextafter(close[:, 1, 2, 3], torch.tensor(2.0))

    whole = digests(x)

    assert len(set(whole.tolist()) | set(digests(close).tolist())) == 600
    assert torch.equal(torch.cat([digests(x[i : i + 7]) for i in range(0, 300, 7)]), whole)
    assert torch.equal(digests(x.transpose(2, 3).contiguous().transpose(2, 3)), whole), "whatever its strides"
    assert int(whole.min()) >= 0
    assert int(whole.max()) < 2**48
