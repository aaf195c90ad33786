from __future__ import annotations

import colorsys
import math

import pytest
import torch
from torch import Tensor

from agents.defenders.stateful.hue_codes import blurred, hue, hue_codes, local_binary_patterns
from agents.defenders.stateful.piha import PIHA
from arena.conformance.tiny_worlds import tiny_world
from arena.game.blame import DefenderError
from arena.game.stack import prepare


def colours(n: int, side: int = 32, seed: int = 0) -> Tensor:
    coarse = torch.rand(n, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(0, 1)


def test_hue_is_that_of_the_standard_library() -> None:
    x = torch.rand(1, 3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, :, 0, 0] = 0.3
    x[0, 1, 0, 1] = x[0, 0, 0, 1]
    x[0, 2, 0, 2] = x[0, 0, 0, 2]
    for i in range(5):
        for j in range(8):
            expected = colorsys.rgb_to_hsv(*x[0, :, i, j].tolist())[0] * 360
            assert float(hue(x)[0, i, j]) == pytest.approx(expected, abs=1e-9)


def test_blur_by_hand() -> None:
    x = torch.zeros(1, 1, 3, 4, dtype=torch.float64)
    x[0, 0, 1, 1] = 1
    side, middle = math.exp(-0.5) / (1 + 2 * math.exp(-0.5)), 1 / (1 + 2 * math.exp(-0.5))
    found = blurred(x)[0, 0]
    assert float(found[1, 1]) == pytest.approx(middle**2)
    assert float(found[1, 2]) == pytest.approx(middle * side)
    assert float(found[0, 1]) == pytest.approx(2 * middle * side), "mirrored without its own row"
    assert float(found[0, 0]) == pytest.approx(4 * side * side)


def pattern_by_hand(z: list[list[float]], i: int, j: int) -> int:
    """As skimage.feature.local_binary_pattern(z, 8, 1) defines it."""

    def at(r: int, c: int) -> float:
        return z[r][c] if 0 <= r < len(z) and 0 <= c < len(z[0]) else 0.0

    code = 0
    for k in range(8):
        r = i + round(-math.sin(2 * math.pi * k / 8), 5)
        c = j + round(math.cos(2 * math.pi * k / 8), 5)
        r0, c0 = math.floor(r), math.floor(c)
        dr, dc = r - r0, c - c0
        above = (1 - dc) * at(r0, c0) + dc * at(r0, c0 + 1)
        below = (1 - dc) * at(r0 + 1, c0) + dc * at(r0 + 1, c0 + 1)
        code |= ((1 - dr) * above + dr * below >= z[i][j]) << k
    return code


def test_local_binary_patterns_by_hand() -> None:
    z = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = local_binary_patterns(z)
    for n in range(2):
        rows = z[n].tolist()
        assert found[n].tolist() == [[pattern_by_hand(rows, i, j) for j in range(5)] for i in range(4)]


@pytest.mark.parametrize(("side", "cells"), [(32, 25), (28, 25), (224, 33 * 33), (8, 4)])
def test_the_number_of_codes(side: int, cells: int) -> None:
    assert hue_codes(torch.rand(2, 3, side, side), 7).shape == (2, cells)


def test_small_changes_match_and_other_images_do_not() -> None:
    x, defender = colours(60), PIHA()
    index = defender.index((3, 32, 32))
    index.add(defender.features(x), torch.zeros(60, 2), torch.zeros(60, dtype=torch.bool))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def caught(z: Tensor) -> float:
        return float(index.find(defender.features(z.clamp(0, 1)))[0].float().mean())

    assert index.find(defender.features(x))[1].tolist() == list(range(60))
    assert caught(x) == 1
    assert caught(x + 0.002 * noise) > 0.8
    assert caught(colours(60, seed=5)) == 0


def test_grey_images_are_refused_before_anything_else() -> None:
    world = tiny_world(0, "cpu")
    with pytest.raises(DefenderError, match=r"piha compares hues: images must have 3 colours .* \[1, 8, 8\]"):
        prepare(world.classifier, [PIHA()], world)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"block": 0}, "block must be at least 1"), ({"distance": float("nan")}, "distance must be at least 0")],
)
def test_bad_parameters(parameters: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PIHA(**parameters)  # type: ignore[arg-type]
