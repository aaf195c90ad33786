from dataclasses import dataclass, field
from itertools import groupby

import pytest
import torch

import arena
from agents.attackers.adaptive.jitter import Jitter
from agents.attackers.adaptive.uncertainty_aware import UncertaintyAware
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.parts.ranks import rank_within
from arena.players import Attacker
from arena.rules.purposes import GRADIENT
from arena.rules.threat import Threat

RULES = {"norm": "l2", "epsilon": 2.0, "budget": 5, "feedback": "label", "objective": "minimum"}


def at_height(height):
    """An attacker that asks for the images at that height above the plane; what it reads."""

    @dataclass(frozen=True)
    class Reads(Attacker):
        plane: object
        read: list = field(default_factory=list)

        def play(self, games):
            x = games.x0 + (height - self.plane.height(games.x0)).view(-1, 1, 1, 1) * self.plane.w
            self.read.append((yield from games.fools(x, None, GRADIENT)))

    return Reads


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("quantisation", ["none", "round", "floor"])
def test_a_parity_is_read_as_a_coin_is_where_repeats_tell_nothing(plane, toy_coin, side, quantisation):
    world = plane(1500)
    share = {}
    for wrapper in (UncertaintyAware, Jitter):
        for rule in ("any", "all"):
            probe = at_height(0.02 * side)(world)
            arena.play(
                wrapper(probe, repeats=5, rule=rule),
                toy_coin(parity=True),
                classifier=world,
                images=world.x0,
                labels=world.label,
                threat=RULES | {"quantisation": quantisation},
                shard=1500,
                votes=1,
            )
            share[wrapper, rule] = float(probe.read[0].double().mean())
    assert share[UncertaintyAware, "any"] == share[UncertaintyAware, "all"] == pytest.approx(0.5, abs=0.06)
    assert share[Jitter, "any"] == pytest.approx(1 - 2**-5, abs=0.03)
    assert share[Jitter, "all"] == pytest.approx(2**-5, abs=0.03)


def sent(referee, linear, x0, attack, **rules):
    threat = Threat(norm="l2", epsilon=9.0, budget=40, feedback="label", objective="minimum", **rules)
    played = referee(linear(tuple(x0.shape[1:])), x0, torch.zeros(len(x0), dtype=torch.int64), threat)
    return played.play(attack)


def test_repeats_differ_from_the_query_by_a_step_of_the_radius(referee, linear, images, asks):
    probe = asks((((0, 1, 0), GRADIENT),))
    played = sent(referee, linear, images(2, (1, 8, 8)), Jitter(probe, repeats=4, radius=1e-3))
    grey = torch.full((1, 8, 8), 0.5)
    steps = [(played.queries(game) - grey).flatten(1) for game in range(2)]
    for game, rows in ((0, 2), (1, 1)):
        length = steps[game].norm(dim=1).view(rows, 4)
        assert length[:, 0].tolist() == [0.0] * rows
        assert torch.allclose(length[:, 1:], torch.tensor(1e-3), rtol=1e-3)
    mine = torch.cat([steps[0].view(2, 4, -1)[:, 1:].flatten(0, 1), steps[1][1:]])
    cosine = torch.nn.functional.cosine_similarity(mine.unsqueeze(0), mine.unsqueeze(1), dim=2)
    assert (cosine - torch.eye(9)).abs().max() < 0.6  # all nine differ


@pytest.mark.parametrize("quantisation", ["round", "floor"])
def test_on_8_bits_one_value_moves_by_one_level(referee, linear, images, asks, quantisation):
    probe = asks((((0,) * 9, GRADIENT),))
    attack = Jitter(probe, repeats=4, scope="every_decision")
    played = sent(referee, linear, images(1, (1, 8, 8)), attack, quantisation=quantisation)
    steps = ((played.queries(0) - 0.5) * 255).flatten(1).view(9, 4, -1)
    assert (steps[:, 0] == 0).all()
    moved = steps[:, 1:].abs() > 0.5
    assert (moved.sum(dim=2) == 1).all()
    assert steps[:, 1:][moved].abs().tolist() == pytest.approx([1.0] * 27, abs=1e-4)
    assert len({int(p) for p in moved.flatten(0, 1).int().argmax(dim=1)}) > 12


def test_a_game_gets_the_same_jitters_in_any_company(referee, linear, images, asks):
    shape, plan = (1, 4, 4), (((0, 0, 0), GRADIENT), ((0,), GRADIENT))
    x0 = images(3, shape)
    alone = sent(referee, linear, x0[:1], Jitter(asks(plan), repeats=3)).queries(0)
    crowd = (((2, 0, 1), GRADIENT), ((0, 1), GRADIENT), ((1, 0), GRADIENT), ((0,), GRADIENT))
    among = sent(referee, linear, x0, Jitter(asks(crowd), repeats=3)).queries(0)
    assert torch.equal(alone, among)


def test_a_large_image_alone_gets_the_jitter_that_it_gets_in_company(referee, linear, images, asks):
    x0, before = images(2, (3, 224, 224)), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone, among = (
            sent(referee, linear, x0[:n], Jitter(asks(((tuple(range(n)), GRADIENT),)), repeats=2, radius=5.0))
            for n in (1, 2)
        )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone.queries(0), among.queries(0))


def test_the_rank_of_a_row_among_those_of_its_game():
    game = torch.tensor([3, 0, 3, 3, 0, 7])
    assert rank_within(game).tolist() == [0, 0, 1, 2, 1, 0]
    assert rank_within(game[:0]).tolist() == []


def test_around_hop_skip_jump_only_probes_are_jittered(referee, linear, images):
    played = sent(
        referee, linear, images(1, (1, 8, 8), high=0.4), Jitter(HopSkipJump(initial_probes=4), repeats=3)
    )
    purposes = [(purpose, len(list(rows))) for purpose, rows in groupby(played.purposes(0))]
    assert (GRADIENT, 12) in purposes


def test_errors():
    with pytest.raises(ValueError, match="radius must be finite and above 0; found 0"):
        Jitter(HopSkipJump(), radius=0.0)
    with pytest.raises(ValueError, match="repeats must be at least 1; found 0"):
        Jitter(HopSkipJump(), repeats=0)
