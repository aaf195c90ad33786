"""What is played to be killed: agents that note, remember and prepare themselves, and their scenario."""

AGENTS = '''
from dataclasses import dataclass, replace
from types import SimpleNamespace
import torch
from agents.attackers.score.random_search import RandomSearch
from arena.players import Defender
from arena.rules.moves import Note

@dataclass(frozen=True)
class Noting(RandomSearch):
    """Random search that says what it believes."""
    def play(self, games):
        every = torch.arange(len(games.x0))
        yield Note("brightness", games.x0.flatten(1).mean(1), every)
        yield Note("word", "naïve [1]", every)
        yield from super().play(games)

@dataclass(frozen=True)
class Remembers(Defender):
    """Flags every fifth query of a game, and shifts its scores."""
    memory = "game"
    def start(self, shape, accounts, device):
        return SimpleNamespace(count=torch.zeros(shape[0], dtype=torch.int64, device=device))
    def respond(self, x, rows, inner):
        response = inner(x, rows)
        fifth = rows.memory.count[rows.game] % 5 == 4
        shift = fifth[:, None] * torch.linspace(0, 1, response.scores.shape[1])
        return replace(response, scores=response.scores + shift, flagged=fifth)
    def remember(self, x, rows, response):
        rows.memory.count.index_add_(0, rows.game, torch.ones_like(rows.game))

@dataclass(frozen=True)
class Prepared(Defender):
    """Shifts the scores by their means on clean images."""
    means: tuple = ()
    def fit(self, classifier, splits):
        return Prepared(tuple(classifier(splits.calibration.images).mean(0).tolist()))
    def state(self):
        return {"means": list(self.means)}
    def restore(self, state, classifier):
        return Prepared(tuple(state["means"]))
    def rewrite(self, scores, rows):
        return scores - 0.1 * scores.new_tensor(self.means)
'''
SCENARIO = """
title = "To be killed"
games = 12
shard = 4
utility = 10
at = [10, 40]
log = "queries"
attackers = ["square", "random-search", "kill_agents:Noting"]
defenders = ["none", { name = "snd", sigma = 0.05 }, "kill_agents:Remembers", "kill_agents:Prepared"]
threat = { epsilon = 0.1, budget = 50 }
"""
