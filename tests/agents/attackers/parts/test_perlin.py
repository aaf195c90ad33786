import math

import pytest
import torch

from agents.attackers.parts.perlin import DIRECTIONS, Perlin

VECTORS = {0: (0, 1), 1: (0, -1), 2: (1, 0), 3: (-1, 0)}  # (x, y)


def fade(t):
    return 6 * t**5 - 15 * t**4 + 10 * t**3


def reference(gradients, height, width, cell):
    """One channel by Perlin's recipe, pixel by pixel: dot products at four corners, two faded lerps."""
    noise = torch.empty(height, width, dtype=torch.float64)
    for py in range(height):
        for px in range(width):
            x, y = px / cell, py / cell
            column, row = math.floor(x), math.floor(y)
            x, y = x - column, y - row

            def dot(a, b, row=row, column=column, x=x, y=y):
                gx, gy = VECTORS[int(gradients[row + a, column + b])]
                return gx * (x - b) + gy * (y - a)

            top = dot(0, 0) + fade(x) * (dot(0, 1) - dot(0, 0))
            bottom = dot(1, 0) + fade(x) * (dot(1, 1) - dot(1, 0))
            noise[py, px] = top + fade(y) * (bottom - top)
    return noise


@pytest.mark.parametrize(("shape", "cell"), [((3, 11, 7), 4.0), ((1, 8, 13), 3.7), ((2, 5, 5), 12.8)])
def test_it_is_perlins_noise(shape, cell):
    noise = Perlin(shape, cell, torch.device("cpu"))
    drawn = torch.randint(DIRECTIONS, (2, *noise.shape), generator=torch.Generator().manual_seed(0))
    found = noise(drawn)
    assert found.shape == (2, *shape) and found.dtype == torch.float32
    for n in range(2):
        for c in range(shape[0]):
            expected = reference(drawn[n, c], *shape[1:], cell)
            assert torch.allclose(found[n, c].double(), expected, atol=1e-6)


def test_it_is_nothing_on_nodes_and_smooth_between():
    noise = Perlin((1, 64, 64), 16.0, torch.device("cpu"))
    drawn = torch.randint(DIRECTIONS, (50, *noise.shape), generator=torch.Generator().manual_seed(1))
    found = noise(drawn)
    assert noise.shape == (1, 5, 5)
    assert not found[..., ::16, ::16].any()
    rough = found.diff(dim=-1).square().mean() / found.square().mean()
    assert rough < 0.05  # white noise: 2
    assert abs(found.mean()) < 0.03


def test_a_game_alone_has_the_noise_it_has_in_company():
    noise = Perlin((3, 32, 32), 12.0, torch.device("cpu"))
    drawn = torch.randint(DIRECTIONS, (9, *noise.shape), generator=torch.Generator().manual_seed(2))
    together = noise(drawn)
    for n in range(9):
        assert torch.equal(noise(drawn[n : n + 1])[0], together[n])
