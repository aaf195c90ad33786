"""OARS around four attacks: the plain ones are stopped by a defender with a memory, these pass it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import arena
from agents.attackers.adaptive.oars_hop_skip_jump import OarsHopSkipJump
from agents.attackers.adaptive.oars_nes import OarsNES
from agents.attackers.adaptive.oars_square import ManySquares, OarsSquare
from agents.attackers.adaptive.oars_surfree import OarsSurFree
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.surfree import SurFree
from agents.attackers.score.nes import NES
from agents.attackers.score.square import Square
from agents.defenders.stateful.blacklight import Blacklight
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import DatasetSpec, load_dataset
from arena.rules.threat import Threat

GAMES = 6


@pytest.fixture(scope="module")
def digits():
    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    return data, load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))


@pytest.fixture
def against(digits, near, queries):
    """against(attacker, ...): the share won against `near`, and all queries."""
    data, classifier = digits

    def play(attacker, norm="linf", epsilon=0.2, budget=400, radius=0.4, **rules):
        threat = {"norm": norm, "epsilon": epsilon, "budget": budget, "objective": "submit"}
        result = arena.play(
            attacker,
            near(radius),
            classifier=classifier,
            images=data.games.take(slice(0, GAMES)),
            labels=data.games.labels[:GAMES],
            threat=threat | {"trust_answers": True} | rules,
            keep_rows=True,
        )
        assert not result.first_error
        return float(result.answered.mean()), queries(result)

    return play


def test_square_is_stopped_and_oars_square_is_not(against):
    """20 games of 600: .30 with .98 of the queries refused, and 1.00 with none."""
    won, rows = against(Square())
    assert won <= 0.5 and rows.share_refused("search") > 0.9
    won, rows = against(OarsSquare())
    assert won >= 0.9 and rows.share_refused("search") <= 0.05


LABELS = {"norm": "l2", "epsilon": 2.0, "feedback": "label"}
HOP = OarsHopSkipJump(least_radius=0.1, most_radius=1.5)


@pytest.mark.slow
def test_hop_skip_jump_is_stopped_and_with_oars_is_not(against):
    won, rows = against(HopSkipJump(), **LABELS, budget=600)
    assert won <= 0.3 and rows.share_refused("gradient") > 0.9
    won, rows = against(HOP, **LABELS, budget=600)
    assert won >= 0.7 and rows.share_refused("gradient") <= 0.1


@pytest.mark.slow
def test_surfree_is_stopped_and_with_oars_is_not(against):
    more = LABELS | {"epsilon": 1.0, "budget": 300, "radius": 0.2}
    won, rows = against(SurFree(), **more)
    better, other = against(OarsSurFree(), **more)
    assert rows.share_refused("candidate", "step") > 0.35 and other.share_refused("candidate") < 0.15
    assert better >= won


@pytest.mark.slow
def test_nes_is_stopped_and_with_oars_is_not(against):
    more = {"radius": 0.25, "budget": 600}
    won, rows = against(NES(eta=0.03, pairs=10), **more)
    assert won == 0 and rows.share_refused("gradient") > 0.9
    won, rows = against(OarsNES(eta=0.06, pairs=10), **more)
    assert won >= 0.3 and rows.share_refused("gradient") < 0.3


def test_a_service_that_does_not_say_so_is_seen_through_by_echoes(digits):
    """Blacklight answers what it recognises as before and tells nobody: every query is as if it had."""
    data, classifier = digits
    told, hidden = (
        arena.play(
            OarsSquare(squares_probes=2, side_probes=2),
            Blacklight(action=action),
            classifier=classifier,
            images=data.games.take(slice(0, 2)),
            labels=data.games.labels[:2],
            threat={"norm": "linf", "epsilon": 0.1, "budget": 60, "objective": "submit"},
            keep_rows=True,
        )
        for action in ("reject", "cached")
    )
    one, other = (np.concatenate([rows.l2 for rows in result.rows]) for result in (told, hidden))
    assert np.concatenate([rows.refused for rows in told.rows]).any()
    np.testing.assert_array_equal(one, other)


# Squares


@pytest.fixture
def many(procedure, referee, linear, images):
    """many(count, side): candidates [200,C,H,W] of one step from the stripes, and these [C,H,W]."""

    def make(count, side, shape=(3, 10, 12)):
        x0 = images(200, shape, 0.4, 0.6)
        seat = referee(linear(shape), x0, torch.zeros(200).long(), Threat(epsilon=0.1, budget=9)).seat
        squares = ManySquares(seat, lambda step: 1e-9, most=20)
        squares.count[:], squares.least[:] = count, side
        start = squares.start()
        return squares.propose(0, start, torch.arange(200)), start, x0

    return make


@pytest.mark.parametrize(("count", "side"), [(1, 1), (1, 4), (3, 2), (20, 5)])
def test_squares_cover_as_much_as_they_should(many, count, side):
    """A pixel that none covers stays; one that some cover changes in half of the channels."""
    x, start, x0 = many(count, side)
    assert torch.allclose((x - x0).abs(), torch.tensor(0.1), atol=1e-6)
    place = torch.cartesian_prod(torch.arange(10 - side), torch.arange(12 - side))
    pixels = torch.zeros(len(place), 10, 12)
    for n, (r, c) in enumerate(place.tolist()):
        pixels[n, r : r + side, c : c + side] = 1
    covered = 1 - (1 - pixels.mean(dim=0)) ** count
    changed = (x != start).float().mean(dim=(0, 1))
    assert (changed - covered / 2).abs().max() < 0.15
    assert abs(changed.mean() - covered.mean() / 2) < 0.02


def test_one_square_has_one_sign_for_each_channel(many):
    x, start, x0 = many(1, 4)
    sign = (x - x0).sign()
    for one, first in zip(sign, (start - x0).sign(), strict=True):
        moved = (one != first).any(dim=0)
        rows, columns = moved.any(dim=1).nonzero(), moved.any(dim=0).nonzero()
        if len(rows):
            assert rows.max() - rows.min() < 4 and columns.max() - columns.min() < 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: OarsSquare(least_squares=9, most_squares=3), "least_squares must be at most most_squares"),
        (lambda: OarsSquare(side_rate=float("nan")), "side_rate must be from 0 to 1; found nan"),
        (lambda: OarsNES(ask_iterate=False), "ask_iterate must be True under OARS; found False"),
        (lambda: OarsNES(least_sigma=1.0), "least_sigma must be at most most_sigma; found 1.0 and 0.5"),
        (lambda: OarsHopSkipJump(step_search="grid"), 'step_search must be "geometric" under OARS'),
        (lambda: OarsHopSkipJump(least_radius=1.0), "must both be given, or neither; found 1.0 and None"),
        (lambda: OarsHopSkipJump(rounds=0), "rounds must be at least 1; found 0"),
        (lambda: OarsSurFree(most_angle=120.0), "most_angle must be from 0 to 90; found 120.0"),
        (lambda: OarsSurFree(least_angle=50.0, most_angle=9.0), "least_angle must be at most most_angle"),
    ],
)
def test_a_bad_parameter_is_told(make, said):
    with pytest.raises(ValueError, match=said):
        make()
