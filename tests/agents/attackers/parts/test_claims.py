from types import SimpleNamespace

import pytest
import torch

from agents.attackers.parts.claims import stand_by
from arena.rules.geometry import quantise
from arena.rules.threat import Threat


@pytest.mark.parametrize(("quantisation", "level"), [("none", 51.0), ("round", 51.4), ("floor", 51.9)])
def test_what_lies_on_the_border_of_the_ball_is_handed_in(referee, linear, quantisation, level):
    """As the referee counts: 51 levels are .2, and float32 puts the difference a little above."""
    shape = (1, 3, 3)
    x0 = torch.tensor([100.0, 200.0]).view(-1, 1, 1, 1).expand(2, *shape) / 255
    x = x0 + torch.tensor([level, level - 102]).view(-1, 1, 1, 1) / 255
    rules = {"feedback": "label", "objective": "submit", "quantisation": quantisation}
    threat = Threat(norm="linf", epsilon=0.2, budget=1, **rules)
    desk = referee(linear(shape), x0, torch.zeros(2, dtype=torch.int64), threat)
    assert (desk.seat.distance(quantise(x, quantisation)) > threat.epsilon).any()
    desk.play(SimpleNamespace(play=lambda games: stand_by(games, x, games.open)))
    assert sorted(desk.submitted) == [0, 1]
