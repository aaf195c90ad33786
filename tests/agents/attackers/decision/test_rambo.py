import math
from functools import partial

import pytest
import torch

from agents.attackers.decision import rambo
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.rambo import RamBo
from agents.attackers.decision.sign_opt import SignOpt
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)
QUICK = {"check_probes": 1, "check_iterations": 1, "slow": 9.0, "window": 30, "least_gain": 0.05}
THREAT = Threat(norm="l2", epsilon=math.inf, budget=800, objective="minimum", feedback="label")


@pytest.mark.parametrize("first", ["hop-skip-jump", "sign-opt"])
def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary, first):
    (found,), result = flat_boundary(SHAPE, 4).ratios(RamBo(first=first))
    assert 1 - 1e-5 <= found < 1.35
    assert result.base.all()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["hop-skip-jump", "sign-opt"])
def test_the_stages_follow_each_other_in_each_game(referee, flat_boundary, first):
    plane = flat_boundary(SHAPE, 3)
    label = torch.zeros(3).long()
    every = referee(plane.answer, plane.images, label, THREAT).play(RamBo(first=first, **QUICK))
    begins = set()
    for game in range(3):
        purposes = every.purposes(game)
        pixels = [n for n, purpose in enumerate(purposes) if purpose == "candidate"]
        begins.add(pixels[0])
        assert "gradient" in purposes[: pixels[0]] and "gradient" in purposes[pixels[-1] :]
        assert pixels == list(range(pixels[0], pixels[-1] + 1)) and len(pixels) >= 60
        best = [float((x - plane.images[game]).norm()) for x, _, z in every.asked[game] if z.argmax() == 1]
        assert min(best) < 1.6 * plane.least["l2"][game]
    assert len(begins) > 1 or first == "hop-skip-jump"
    for game in (0, 2):
        key = torch.tensor([game])
        one = referee(plane.answer, plane.images[[game]], label[:1], THREAT, key=key)
        assert torch.equal(one.play(RamBo(first=first, **QUICK)).queries(0), every.queries(game))


def test_a_first_stage_that_converges_goes_on_to_pixels(referee, flat_boundary, monkeypatch):
    """With such steps Sign-OPT has converged after its first iteration."""
    monkeypatch.setattr(rambo, "SignOpt", partial(SignOpt, alpha=1e-9, beta=2e-9, probes=8, init_draws=20))
    plane = flat_boundary(SHAPE, 2)
    table = referee(plane.answer, plane.images, torch.zeros(2).long(), THREAT)
    table.play(RamBo(first="sign-opt", check_iterations=1, window=30))
    assert all(table.purposes(game).count("candidate") >= 60 for game in range(2))


def test_before_it_is_slow_it_is_hop_skip_jump(referee, flat_boundary):
    plane = flat_boundary(SHAPE, 2)
    label, threat = torch.zeros(2).long(), Threat(**{**THREAT.__dict__, "budget": 500})
    one = referee(plane.answer, plane.images, label, threat).play(RamBo())
    other = referee(plane.answer, plane.images, label, threat).play(HopSkipJump())
    assert all(torch.equal(one.queries(game), other.queries(game)) for game in range(2))


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"block": 0}, "block must be at least 1; found 0"),
        ({"slow": -1.0}, "slow must not be negative; found -1.0"),
        ({"shrink": 1.0}, "shrink must be finite and above 1; found 1.0"),
        ({"percentile": 101.0}, "percentile must be from 0 to 100; found 101.0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        RamBo(**option)
