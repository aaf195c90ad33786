"""The scripted referee of these tests keeps the rules of the real one."""

import pytest
import torch

from agents.attackers.adaptive.eot import EOT
from agents.attackers.adaptive.op_square import OpSquare
from agents.attackers.score.random_search import RandomSearch
from agents.attackers.score.square import Square
from arena.classifiers import Classifier
from arena.game.openings import Openings
from arena.game.referee import Referee
from arena.game.shard import play_games
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.rules.threat import Threat

ATTACKERS = [
    Square(),
    Square(refresh_every=3, clean_query=True),
    OpSquare(theta=0.5),
    RandomSearch(mu=0.1),
    EOT(Square(), repeats=3),
]


@pytest.mark.parametrize("objective", ["first", "submit"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attacker", ATTACKERS, ids=lambda a: type(a).__name__)
def test_the_same_queries_hits_and_notes_as_with_the_real_referee(
    referee, linear, images, attacker, norm, objective
):
    shape = (1, 8, 8)
    model, x0 = linear(shape, classes=3), images(12, shape)
    every = torch.arange(12)
    label = model(x0, every, every).argmax(dim=1)
    threat = Threat(norm=norm, epsilon=0.05 if norm == "linf" else 0.4, budget=50, objective=objective)
    scripted = referee(model, x0, label, threat, seed=5).play(attacker)

    classifier = Classifier.of(lambda x: model(x, every, every), sample=x0[:1], device="cpu", batch=64)
    real = Referee(StackOracle(Stack(classifier), games=12), Openings(x0, label, every), threat)
    found = play_games(attacker, real, real.seat(seed=5))

    assert found.queries.tolist() == [len(asked) for asked in scripted.asked]
    assert found.hit_at.tolist() == [hits[0] if hits else 0 for hits in scripted.hits]
    noted = {game: turn for key, game, turn in reversed(scripted.notes) if key == "accepted"}
    assert found.accepted_at.tolist() == [noted.get(game, 0) for game in range(12)]
    if not isinstance(attacker, OpSquare):
        assert any(scripted.hits) and not all(scripted.hits)
