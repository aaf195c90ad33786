import math

import pytest
import torch

from agents.attackers.decision.opt import Opt, estimate
from agents.attackers.decision.sign_opt import SignOpt
from agents.attackers.parts.directions import Descent, Directions, normed
from arena.rules.threat import Threat

SHAPE = (1, 12, 12)
THREAT = Threat(norm="l2", epsilon=math.inf, budget=5000, objective="minimum", feedback="label")


def estimated(referee, procedure, boundary, theta, g, count, beta):
    def steps(games):
        descent = Descent.start(games, Directions(theta.clone(), g.clone()), 0.2, beta)
        return (yield from estimate(descent, games.open, count))

    run = procedure(steps)
    table = referee(boundary.answer, boundary.images, torch.zeros(len(theta)).long(), THREAT)
    table.play(run)
    return *run.result, table


def test_the_estimate_is_the_mean_of_finite_differences_and_keeps_the_nearest_probe(
    referee, flat_boundary, procedure
):
    """Against g = margin / <w, theta> in float64, for the draws of a seat with the same seed."""
    boundary, count, beta = flat_boundary(SHAPE, 3), 6, 1e-2
    w = boundary.w / boundary.w.norm()
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(4))
    theta = normed((noise / 12 + 0.7 * w.float()), "l2")[0]

    def g_of(directions):
        slope = (w * directions).flatten(-3).sum(dim=-1)
        return boundary.least["l2"].view(-1, *[1] * (slope.dim() - 1)) / slope

    g = g_of(theta.double())
    gradient, nearest, table = estimated(referee, procedure, boundary, theta, g, count, beta)
    seat = referee(boundary.answer, boundary.images, torch.zeros(3).long(), THREAT).seat
    u = normed(seat.normal((count, *SHAPE)), "l2")[0].double()
    turned = theta.unsqueeze(1).double() + beta * u
    turned /= turned.flatten(2).norm(dim=2)[..., None, None, None]
    around = g_of(turned)
    expected = (((around - g.unsqueeze(1)) / beta)[..., None, None, None] * u).mean(dim=1)
    width = beta / 500
    assert torch.allclose(gradient.double(), expected, atol=2 * width / beta)
    assert torch.allclose(nearest.g, around.min(dim=1).values, atol=1.1 * width)
    best = turned[torch.arange(3), around.argmin(dim=1)]
    assert torch.allclose(nearest.theta.double(), best, atol=1e-5)
    assert all(set(table.purposes(game)) == {"gradient"} for game in range(3))


def test_probes_that_find_no_boundary_are_left_out(referee, flat_boundary, procedure):
    boundary = flat_boundary(SHAPE, 2)
    theta = normed(-boundary.w.float().expand(2, *SHAPE), "l2")[0]
    gradient, nearest, _ = estimated(
        referee, procedure, boundary, theta, torch.full((2,), 10.0).double(), 2, 1e-3
    )
    assert (gradient == 0).all() and nearest.g.isinf().all()


@pytest.mark.slow
def test_on_a_plane_the_distance_falls_more_slowly_than_sign_opts(flat_boundary):
    boundary = flat_boundary(SHAPE, 4)
    found, result = boundary.ratios(Opt(init_draws=20), "l2", 1600, (800,))
    assert all(1 - 1e-6 <= ratio < bound for ratio, bound in zip(found, (3.5, 2.0), strict=True)), found
    assert result.base.all()
    quicker, _ = boundary.ratios(SignOpt(init_draws=20), "l2", 1600)
    assert quicker[0] < 0.9 * found[1]


def test_defaults_follow_the_threat(referee, flat_boundary):
    boundary = flat_boundary(SHAPE, 1)
    for norm, goal, expected in (
        ("l2", "untargeted", 10),
        ("linf", "untargeted", 5),
        ("linf", "targeted", 20),
    ):
        threat = Threat(
            norm=norm, goal=goal, epsilon=math.inf, budget=9, objective="minimum", feedback="label"
        )
        seat = referee(boundary.answer, boundary.images, torch.zeros(1).long(), threat).seat
        assert Opt().count(seat) == expected and Opt(directions=3).count(seat) == 3


@pytest.mark.slow
def test_in_linf_it_falls_too(flat_boundary):
    found, _ = flat_boundary(SHAPE, 3).ratios(Opt(init_draws=20), "linf", 1600, (600,))
    assert found[1] < 0.85 * found[0]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"alpha": math.nan}, "alpha must be finite and above 0; found nan"),
        ({"beta": -1.0}, "beta must be finite and above 0; found -1.0"),
        ({"directions": 0}, "directions must be at least 1; found 0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        Opt(**option)
