import math
from dataclasses import dataclass, replace

import pytest
import torch

import arena
from agents.attackers.adaptive.bypass_fq import RATIO, BypassFQ, smallest_undetected
from agents.attackers.adaptive.bypass_fq_sign_flip import BypassFQSignFlip
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.sign_flip import SignFlip
from arena.players import Defender
from arena.rules.purposes import CANDIDATE, GRADIENT
from arena.rules.threat import Threat

RULES = {
    "norm": "l2",
    "epsilon": "inf",
    "budget": 400,
    "feedback": "label",
    "objective": "minimum",
    "knowledge": "detector",
}


def play(attack, defender, world, **rules):
    return arena.play(
        attack,
        defender,
        classifier=world,
        images=world.x0,
        labels=world.label,
        threat=RULES | rules,
        keep_rows=True,
        votes=1,
    )


def flags(run, purpose):
    """Of the queries of that purpose, how many there were and how many were flagged."""
    rows = [rows for rows in run.rows if rows.purpose == purpose]
    return sum(len(r.game) for r in rows), sum(int(r.flagged.sum()) for r in rows)


class Seat:
    """A seat whose detector is a function of the images."""

    def __init__(self, referee, linear, x0, detector, **rules):
        threat = Threat(norm="l2", epsilon=9.0, budget=50, feedback="label", knowledge="detector", **rules)
        label = torch.zeros(len(x0), dtype=torch.int64)
        self.games = referee(linear(tuple(x0.shape[1:])), x0, label, threat).seat
        self.detector, self.consulted = detector, []

    def run(self, generator):
        reply = None
        try:
            while True:
                move = generator.send(reply)
                self.consulted.append(move.x)
                reply = replace(self.games.state, insight=self.detector(move.x))
        except StopIteration as stop:
            return stop.value


def test_the_smallest_size_of_the_grid_that_passes_is_found(referee, linear, images):
    """The mean of an image is its size; from 0.3 on, and for row 2 never, the detector lets it pass."""
    seat = Seat(referee, linear, images(3, (1, 2, 2)), lambda x: 0.3 - x.mean(dim=(1, 2, 3)))

    def image(size, rows):
        return torch.where(rows == 2, 0.0, size).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)

    first, top = torch.tensor([0.1, 0.31, 0.1, 0.2, 0.5]), torch.tensor([1.0, 1.0, 1.0, 0.28, 0.4])
    game = torch.tensor([0, 1, 2, 0, 1])
    size, valid = seat.run(smallest_undetected(seat.games, game, first, top, image))
    assert valid.tolist() == [True, True, False, False, False]
    assert size[0].item() == pytest.approx(0.1 * RATIO**4)  # 0.4: the first above 0.3
    assert size[1].item() == pytest.approx(0.31)
    assert len(seat.consulted) == 1 + math.floor(2 * math.log2(10))


@pytest.mark.parametrize("box", ["clip", "strict"])
def test_radii_end_at_the_border_of_the_box(referee, linear, box):
    """Everything is detected, so that all sizes up to the largest are tried."""
    x = torch.full((1, 1, 2, 2), 0.5)
    seat = Seat(referee, linear, x, lambda x: torch.ones(len(x)))
    u = torch.tensor([[[[[1.0, 0.0], [0.0, 0.0]]]]])
    attack = BypassFQ(box=box)
    _, valid = seat.run(attack.radii(seat.games, x, u, torch.tensor([0.1]), torch.tensor([0])))
    assert valid.tolist() == [[False]]
    tried = [float(image[0, 0, 0, 0]) - 0.5 for image in seat.consulted]
    most = 0.5 if box == "strict" else 2.0
    assert len(tried) == 1 + math.floor(2 * math.log2(most / 0.1))
    assert tried == pytest.approx([min(0.5, 0.1 * RATIO**n) for n in range(len(tried))])


def test_a_saturated_pixel_leaves_nothing_of_the_strict_box(referee, linear):
    x = torch.full((1, 1, 2, 2), 0.5)
    x[0, 0, 0, 0] = 1.0
    seat = Seat(referee, linear, x, lambda x: -torch.ones(len(x)))
    u = torch.tensor([[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]]).view(1, 2, 1, 2, 2)
    for box, valid in (("strict", [False, True]), ("clip", [True, True])):
        found = seat.run(BypassFQ(box=box).radii(seat.games, x, u, torch.tensor([0.1]), torch.tensor([0])))
        assert found[1].tolist() == [valid]


def test_its_probes_are_not_detected_and_all_that_are_due_are_asked(plane, toy_coin):
    """Half a band of 0.01 is left by some directions at a radius below 1."""
    world = plane(2)
    plain = play(HopSkipJump(), toy_coin(band=0.01), world, budget=200)
    run = play(BypassFQ(max_directions=20), toy_coin(band=0.01), world, budget=200)
    asked, flagged = flags(run, GRADIENT)
    assert asked > 200 and flagged == 0
    assert flags(plain, GRADIENT)[1] > 100
    assert (run.queries == 200).all() and (run.games.insider_queries > 200).all()


@dataclass(frozen=True)
class All(Defender):
    """Detects everything."""

    def detector(self, x, classifier):
        return x.new_zeros(len(x))


@dataclass(frozen=True)
class Nothing(Defender):
    """Detects nothing."""

    def detector(self, x, classifier):
        return x.new_full((len(x),), -1e-6)


def shares(run):
    """What was noted as `valid-share`."""
    return [value for rows in run.notes if rows.key == "valid-share" for value in rows.value]


@pytest.mark.parametrize(
    "attack",
    [
        BypassFQ(initial_probes=10, max_directions=2),
        BypassFQ(initial_probes=10, box="strict", max_directions=1),
    ],
)
def test_the_share_of_directions_with_a_radius_is_noted_at_every_estimate(plane, toy_coin, attack):
    """Clipped to the box every direction leaves the band, strictly inside it some do not reach its end."""
    world = plane(2)
    assert set(shares(play(attack, Nothing(), world, budget=120))) == {1.0}
    assert set(shares(play(attack, All(), world, budget=120))) == {0.0}
    some = shares(play(attack, toy_coin(band=0.01), world, budget=120))
    assert len(some) >= 2 and all(0 <= share <= 1 for share in some)
    mean = sum(some) / len(some)
    assert mean == 1 if attack.box == "clip" else 0 < mean < 1


def test_sign_flips_share_is_noted_every_ten_iterations(plane):
    world = plane(2)
    noted = shares(play(BypassFQSignFlip(), Nothing(), world, budget=100))
    assert noted == [1.0] * len(noted) and len(noted) >= 2 * 3
    assert set(shares(play(BypassFQSignFlip(), All(), world, budget=100))) == {0.0}


def test_where_nothing_is_detected_it_is_hop_skip_jump(plane):
    world = plane(3)
    bypass, plain = play(BypassFQ(), Nothing(), world), play(HopSkipJump(), Nothing(), world)
    assert (bypass.images == plain.images).all() and (bypass.games.l2 == plain.games.l2).all()
    assert (bypass.games.insider_queries > 200).all()


def test_where_everything_is_detected_no_probe_is_asked_and_the_game_is_played_out(plane):
    world = plane(2)
    run = play(BypassFQ(initial_probes=8, max_directions=1), All(), world, budget=120)
    assert flags(run, GRADIENT)[0] == 0
    assert (run.queries == 120).all() and run.answered.all()


def test_sign_flips_proposals_are_not_detected(plane, toy_coin):
    world = plane(2)
    for norm in ("l2", "linf"):
        run = play(BypassFQSignFlip(), toy_coin(band=0.02), world, norm=norm, budget=60)
        asked, flagged = flags(run, CANDIDATE)
        assert asked > 60 and flagged == 0
        assert flags(play(SignFlip(), toy_coin(band=0.02), world, norm=norm, budget=60), CANDIDATE)[1] > 0


def test_a_sign_flip_that_nothing_passes_is_given_up(plane, monkeypatch):
    monkeypatch.setattr("agents.attackers.adaptive.bypass_fq_sign_flip.BARREN", 10)
    run = play(BypassFQSignFlip(), All(), plane(2))
    assert list(run.reason) == ["resigned"] * 2
    assert flags(run, CANDIDATE)[0] == 0 and run.answered.all()
    assert (run.games.insider_queries >= 2 * 10).all()


def test_errors():
    with pytest.raises(ValueError, match="max_directions must be at least 1; found 0"):
        BypassFQ(max_directions=0)
    assert BypassFQ().needs.knowledge == BypassFQSignFlip().needs.knowledge == "detector"
