import math

import numpy as np
import pytest
import torch

import arena
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.pop_skip_jump import PopSkipJump
from arena import draws
from arena.rules.threat import Threat

SHAPE = (1, 12, 12)
THREAT = Threat(norm="l2", epsilon=math.inf, budget=600, objective="minimum", feedback="label")


def ratio(plane, result, norm="l2"):
    """The median distance over the least possible, infinite where the plane was not crossed."""
    far = np.where(result.base, getattr(result.games, norm), np.inf)
    return float(np.median(far / plane.least[norm].numpy()))


def noise(sigma):
    return {"name": "snd", "sigma": sigma}


@pytest.mark.parametrize(("norm", "bound"), [("l2", 1.7), ("linf", 2.1)])
def test_without_noise_it_is_hop_skip_jump(flat_boundary, norm, bound):
    plane = flat_boundary(SHAPE, 8)
    (one,), _ = plane.ratios(PopSkipJump(), norm)
    (other,), _ = plane.ratios(HopSkipJump(), norm)
    assert one < bound and one < other * 1.1


@pytest.mark.parametrize(
    ("norm", "sigma", "bound"), [("l2", 0.02, 2.3), pytest.param("linf", 0.01, 2.7, marks=pytest.mark.slow)]
)
def test_under_noise_it_beats_hop_skip_jump_by_the_base_verdict(flat_boundary, norm, sigma, bound):
    plane = flat_boundary(SHAPE, 6)
    found = plane.play(PopSkipJump(), noise(sigma), norm)
    assert found.base.mean() > 0.8 and found.vote.mean() >= 0.7
    one = ratio(plane, found, norm)
    assert one < bound
    assert ratio(plane, plane.play(HopSkipJump(delta_rule="art"), noise(sigma), norm), norm) > 1.5 * one


@pytest.mark.slow
def test_random_defenses_of_digits_fall_to_it_where_hop_skip_jump_fails():
    from pathlib import Path

    from arena.classifiers import ClassifierSpec, load_classifier
    from arena.datasets import DatasetSpec, load_dataset

    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    classifier = load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))
    # Both as their papers have them; where they repeat what they stand by, HopSkipJump does not fail so.
    threat = {"norm": "l2", "epsilon": 1.2, "budget": 1000, "feedback": "label", "objective": "minimum"}
    threat |= {"trust_answers": True}
    wrong = {}
    for attacker in (PopSkipJump(), HopSkipJump(delta_rule="art")):
        run = arena.play(
            attacker,
            noise(0.02),
            classifier=classifier,
            images=data.games.take(slice(0, 10)),
            labels=data.games.labels[:10],
            threat=threat,
        )
        wrong[type(attacker)] = 1 - run.accuracy("base")
    assert wrong[PopSkipJump] > wrong[HopSkipJump] + 0.3


def blurred(plane, width, flips=0.0):
    """The plane's answers, its margin (an l2 distance) blurred by `width`, then flipped, by game and turn."""

    def model(x, game, turn):
        drawn = draws.uniform(7, game, turn, (2,)).double()
        margin = (plane.side(x) - plane.b) / plane.w.norm()
        margin += width * (drawn[:, 0] / (1 - drawn[:, 0]).clamp_min(1e-9)).log()
        wrong = (margin > 0) ^ (drawn[:, 1] < flips)
        return torch.stack([~wrong, wrong], dim=1).float()

    return model


def test_probes_are_raised_as_the_noise_takes(referee, flat_boundary):
    """With flips nu alone B_t grows by (1 - 2 nu)^-2, 25/9 for nu = .2, found on a grid of .1."""
    plane = flat_boundary(SHAPE, 4, seed=4)
    model = blurred(plane, 1e-6, flips=0.2)
    threat = Threat(norm="l2", epsilon=math.inf, budget=900, objective="minimum", feedback="label")
    table = referee(model, plane.images, torch.zeros(4).long(), threat).play(PopSkipJump(repeats=0))
    first = [_first_burst(table.purposes(game)) for game in range(4)]
    assert all(n % 8 == 0 and 100 / 0.64 <= n <= 104 * 4 for n in first), first
    assert np.median(first) <= 104 * 25 / 9, first


def _first_burst(purposes):
    start = purposes.index("gradient")
    return next((n for n, p in enumerate(purposes[start:]) if p != "gradient"), len(purposes) - start)


def test_without_noise_the_price_is_the_repeats(referee, flat_boundary):
    plane = flat_boundary(SHAPE, 4)
    model = blurred(plane, 0.0)
    label = torch.zeros(4).long()
    asked = {}
    for repeats, attacker in ((0, HopSkipJump()), (4, PopSkipJump())):
        purposes = referee(model, plane.images, label, THREAT).play(attacker).purposes(0)
        asked[repeats] = purposes.index("gradient")
        assert _first_burst(purposes) in (100, 104)
    assert asked[4] == asked[0] + 2 * 4


def test_a_game_goes_alike_alone_and_in_company_under_noise(referee, flat_boundary):
    plane = flat_boundary(SHAPE, 4)
    model = blurred(plane, 0.01)
    label = torch.zeros(4).long()
    every = referee(model, plane.images, label, THREAT).play(PopSkipJump())
    for game in (1, 3):

        def shifted(x, _, turn, game=game):
            return model(x, torch.full((len(x),), game), turn)

        key = torch.tensor([game])
        one = referee(shifted, plane.images[[game]], label[:1], THREAT, key=key).play(PopSkipJump())
        assert torch.equal(one.queries(0), every.queries(game))


def test_what_noise_calls_adversarial_is_not_handed_in(referee, flat_boundary):
    """Under submit only what lies behind the boundary with 98 % is handed in: few are benign."""
    plane = flat_boundary(SHAPE, 4)
    model = blurred(plane, 0.02)
    threat = Threat(norm="l2", epsilon=2.1, budget=900, objective="submit", feedback="label")
    table = referee(model, plane.images, torch.zeros(4).long(), threat).play(PopSkipJump())
    assert len(table.submitted) >= 3
    handed_in = torch.stack(list(table.submitted.values()))
    assert (plane.side(handed_in) > plane.b).double().mean() >= 0.75


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"cells": 9}, "cells must be at least 10; found 9"),
        ({"max_raise": 0.5}, "max_raise must be at least 1; found 0.5"),
        ({"repeats": -1}, "repeats must not be negative; found -1"),
        ({"step_search": "grid"}, 'step_search must be "geometric"; found "grid"'),
        ({"max_probes": 0}, "max_probes must be at least 1; found 0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        PopSkipJump(**option)
