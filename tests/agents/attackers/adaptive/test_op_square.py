import math

import pytest
import torch

from agents.attackers.adaptive.bi_square import BiSquare
from agents.attackers.adaptive.op_square import OpSquare
from agents.attackers.score.square import Square
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)


@pytest.fixture
def accept(referee, linear, images):
    """accept(attacker, new, best): what its rule says, a game for each pair."""

    def decide(attacker, new, best):
        games = len(new)
        seat = referee(
            linear(SHAPE),
            images(games, SHAPE),
            torch.zeros(games, dtype=torch.int64),
            Threat(epsilon=0.1, budget=1),
        ).seat
        return attacker.acceptance(seat)(torch.tensor(new), torch.tensor(best), torch.arange(games)).tolist()

    return decide


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        (0.0, False),
        (0.5, True),
        (3.0, True),
        (9.0, True),
        (-0.5, False),
        (-3.0, False),
        (-3.5, True),
        (-9.0, True),
    ],
)
def test_it_takes_rises_and_abnormal_drops(accept, change, accepted):
    assert accept(OpSquare(), [2.0 + change], [2.0]) == [accepted]


def test_theta_is_where_a_drop_becomes_abnormal(accept):
    new, best = [1.0, 1.0, 1.0], [1.5, 2.0, 2.5]
    assert accept(OpSquare(theta=1.0), new, best) == [False, False, True]
    assert accept(OpSquare(theta=0.0), new, best) == [True, True, True]


def test_no_answer_is_no_rise_and_any_answer_replaces_none(accept):
    inf = math.inf
    assert accept(OpSquare(), [inf, inf, 1.0], [2.0, inf, inf]) == [False, False, True]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_only_the_acceptance_differs_from_square(referee, linear, images, norm):
    """Same start, same first candidate; and where all rules accept the same, the same queries throughout."""
    x0, label = images(6, SHAPE), torch.zeros(6, dtype=torch.int64)
    threat = Threat(norm=norm, epsilon=0.1, budget=50)

    def constant(x, game, turn):
        return torch.tensor([5.0, 0.0]).expand(len(x), 2)

    def plays(model):
        return [referee(model, x0, label, threat, seed=2).play(a) for a in (Square(), OpSquare(), BiSquare())]

    square, op, bi = plays(constant)
    slopes = linear(SHAPE)
    far, far_op, far_bi = plays(lambda x, game, turn: slopes(x, game, turn) + torch.tensor([100.0, 0.0]))
    for game in range(6):
        assert torch.equal(op.queries(game), square.queries(game))
        assert torch.equal(bi.queries(game), square.queries(game))
        assert torch.equal(far_op.queries(game)[:2], far.queries(game)[:2])
        assert torch.equal(far_bi.queries(game), far.queries(game))  # no abnormal rise: bi is Square
        assert not torch.equal(far_op.queries(game), far.queries(game))


def test_it_breaks_a_classifier_that_shows_its_margin_upside_down(referee, linear, images):
    """Within (0, 6) the margin shown is 6 - m, as by AAA-linear: Square climbs the true one."""
    slopes, x0 = linear(SHAPE), images(16, SHAPE, low=0.3, high=0.7)
    label = torch.zeros(16, dtype=torch.int64)

    def true_margin(x, game, turn):
        z = slopes(x, game, turn) - slopes(x0, game, turn)[game]
        return z[:, 0] - z[:, 1] + 3

    def upside_down(x, game, turn):
        m = true_margin(x, game, turn)
        shown = torch.where((m > 0) & (m < 6), 6 - m, m)
        return torch.stack([shown, torch.zeros_like(m)], dim=1)

    threat = Threat(epsilon=0.1, budget=400)
    broken = {
        a: sum(map(bool, referee(upside_down, x0, label, threat).play(a).hits))
        for a in (Square(), OpSquare())
    }
    assert broken[OpSquare()] >= 14
    assert broken[Square()] <= 2


@pytest.mark.parametrize("objective", ["first", "submit"])
def test_a_hit_that_the_rule_rejects_is_neither_noted_nor_kept(referee, images, objective):
    """The second answer is wrong by a small drop of the margin, the third by an abnormal one."""
    x0, label = images(1, SHAPE), torch.zeros(1, dtype=torch.int64)

    def scripted(x, game, turn):
        margin = torch.tensor([0.0, 1.0, -1.0, -3.0])[turn.clamp(max=3)]
        return torch.stack([margin, torch.zeros(len(x))], dim=1)

    threat = Threat(epsilon=0.1, budget=10, objective=objective)
    op = referee(scripted, x0, label, threat).play(OpSquare())
    square = referee(scripted, x0, label, threat).play(Square())
    assert square.notes == [("accepted", 0, 2)]
    if objective == "first":
        assert op.hits == [[2]] and op.notes == []
    else:
        assert op.hits == [[2, 3]] and op.notes == [("accepted", 0, 3)]
        assert torch.equal(op.submitted[0], op.queries(0)[2])


def test_parameters(accept):
    assert OpSquare().loss == "margin" and OpSquare().theta == 3
    with pytest.raises(ValueError, match="theta must not be negative; found -1"):
        OpSquare(theta=-1.0)
    with pytest.raises(ValueError, match="p must be"):
        OpSquare(p=0.0)
