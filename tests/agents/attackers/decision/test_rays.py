"""RayS against the algorithm written down for one game, step by step, and what a plane is known to allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import arena
from agents.attackers.decision.rays import RayS, Rays
from arena.rules.threat import Threat

ENDLESS = {"norm": "linf", "epsilon": "inf", "feedback": "label", "objective": "minimum"}


def one_game(wrong, x0, budget, tolerance=1e-3):
    """The queries of RayS on one image [d], in plain Python and float64; `wrong(x) -> bool`."""
    d = len(x0)
    sign, radius, asked = -np.ones(d), math.inf, []
    level, block = 0, 0

    def ask(direction, r):
        asked.append(np.clip(x0 + min(r, math.sqrt(d)) * direction / math.sqrt(d), 0, 1))
        return wrong(asked[-1])

    while len(asked) < budget:
        length = math.ceil(d / 2**level)
        start, end = block * length, min(d, (block + 1) * length)
        tried = sign.copy()
        tried[start:end] *= -1
        if ask(tried, radius):
            low, high = 0.0, min(radius, math.sqrt(d))
            while True:
                middle = (low + high) / 2
                if ask(tried, middle):
                    high = middle
                else:
                    low = middle
                if high - low <= tolerance:
                    break
            if high < radius:
                sign, radius = tried, high
        block += 1
        if block == 2**level or end == d:
            level, block = level + 1, 0
    return np.stack(asked[:budget])


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 5, 7)])
def test_every_query_is_that_of_the_algorithm(referee, flat_boundary, shape):
    """Other games in the volley are at other blocks, and in the midst of other searches."""
    boundary = flat_boundary(shape, 5)
    threat = Threat.model_validate(ENDLESS | {"budget": 400})
    table = referee(boundary.answer, boundary.images, torch.zeros(5).long(), threat).play(RayS())
    for game in range(5):

        def wrong(x):
            return bool(boundary.side(torch.tensor(x).float().view(1, *shape)) > boundary.b)

        expected = one_game(wrong, boundary.images[game].double().flatten().numpy(), 400)
        np.testing.assert_allclose(table.queries(game).flatten(1), expected, atol=2e-7)


def test_on_a_plane_it_ends_with_all_signs_right(flat_boundary):
    """A flip shortens the ray exactly where the sign was wrong: one pass over the pixels finds the least."""
    found, result = flat_boundary((1, 8, 8), 6).ratios(RayS(), "linf", 800, (200, 400))
    assert found[0] > found[1] > found[2] >= 1 - 1e-6, found
    assert found[0] < 1.9 and found[1] < 1.3 and found[2] < 1.01, found
    assert result.base.all()


def test_the_first_directions_are_white_black_and_halves(referee):
    """Nothing fools: infinite radii, the corners of the box, blocks of the whole, of halves, of quarters."""

    def never(x, game, turn):
        return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

    x0 = torch.full((2, 1, 2, 4), 0.3)
    threat = Threat.model_validate(ENDLESS | {"budget": 30})
    table = referee(never, x0, torch.zeros(2).long(), threat).play(RayS())
    flipped = [range(8), range(4), range(4, 8), range(2), range(2, 4), range(4, 6), range(6, 8)]
    flipped += [[n] for n in range(8)] * 3
    for query, white in zip(table.queries(1).flatten(1), flipped, strict=False):
        assert query.tolist() == [1.0 if n in white else 0.0 for n in range(8)]
    assert table.purposes(0) == ["candidate"] * 30


@given(st.integers(1, 400), st.integers(0, 12))
def test_the_blocks_of_a_level_are_the_image_once(size, level):
    games = type("Seat", (), {"x0": torch.zeros(1, 1, 1, size), "label": torch.zeros(1).long()})
    games.__len__ = lambda self: 1
    rays, i = Rays(games()), torch.tensor([0])
    rays.level[0] = level = min(level, rays.finest)
    covered = torch.zeros(size)
    while True:
        start, end = rays.bounds(i)
        covered[int(start) : int(end)] += 1
        rays.advance(i)
        if int(rays.block) == 0:
            break
    assert (covered == 1).all()
    assert int(rays.level) == min(level + 1, rays.finest)


@pytest.mark.slow
def test_it_plays_on_inside_the_ball_under_minimum_and_hands_in_under_submit(flat_boundary):
    boundary = flat_boundary((1, 8, 8), 4)
    epsilon = 2 * float(boundary.least["linf"].max())
    given = {"classifier": boundary, "images": boundary.images, "labels": torch.zeros(4).long()}
    rules = ENDLESS | {"epsilon": epsilon, "budget": 300}
    whole = arena.play(RayS(), threat=rules, **given)
    assert whole.reason == ["budget"] * 4 and whole.answered.all()
    early = arena.play(RayS(), threat=rules | {"objective": "submit"}, **given)
    assert early.reason == ["submitted"] * 4
    assert early.base.all() and (early.queries < 300).all()
    assert (whole.games.linf < early.games.linf).all()


def test_searches_end_at_the_tolerance(flat_boundary, referee):
    """A first search halves sqrt(d) until it is no longer than the tolerance."""
    boundary = flat_boundary((1, 8, 8), 1)
    threat = Threat.model_validate(ENDLESS | {"budget": 120})
    for tolerance in (1e-1, 1e-3):
        table = referee(boundary.answer, boundary.images, torch.zeros(1).long(), threat)
        purposes = table.play(RayS(tolerance=tolerance)).purposes(0)
        first = purposes.index("boundary-search")
        length = purposes[first:].index("candidate")
        assert length == math.ceil(math.log2(8 / tolerance))


def test_parameters_out_of_range_are_told():
    with pytest.raises(ValueError, match=r"tolerance must be finite and above 0; found 0\.0"):
        RayS(tolerance=0.0)


def test_it_plays_linf_untargeted():
    needs = RayS().needs
    assert needs.unmet(Threat(norm="l2", epsilon=1, budget=9, feedback="label")) == (
        'it plays norm "linf"; the threat\'s norm is "l2"'
    )
    assert needs.unmet(Threat(epsilon=1, budget=9, feedback="label", goal="targeted")) is not None
