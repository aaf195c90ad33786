from dataclasses import replace

import pytest
import torch

from agents.attackers.parts import refusals
from agents.attackers.parts.refusals import Echoes, digests, with_echoes
from arena.players import Answers, Games
from arena.rules.threat import Threat

NONE = torch.zeros(0, dtype=torch.int64)


def seat(games=2, feedback="logits"):
    every, opened = torch.arange(games), torch.ones(games, dtype=torch.bool)
    state = Answers(NONE, NONE, None, NONE.bool(), NONE.bool(), every, opened, every, opened[:, None])
    threat = Threat(epsilon=0.1, budget=9, feedback=feedback)
    return Games(torch.zeros(games, 1, 2, 2), 0 * every, threat, classes=3, state=state)


def answers(games, game, scores):
    game, yes = torch.tensor(game), torch.ones(len(game), dtype=torch.bool)
    scores = torch.tensor(scores)
    return replace(
        games.state, game=game, label=scores.argmax(dim=1), scores=scores, answered=yes, refused=~yes
    )


A, B, C = [0.1, 0.2, 0.7], [0.1, 0.25, 0.65], [0.1, 0.2, 0.70001]


def test_scores_heard_before_in_the_game_are_a_refusal():
    games = seat()
    echoes = Echoes(games)
    first = echoes.marked(answers(games, [0, 1, 0, 0], [A, A, B, A]))
    assert first.refused.tolist() == [False, False, False, True]
    second = echoes.marked(answers(games, [1, 1, 0], [B, A, C]))
    assert second.refused.tolist() == [False, True, False]
    assert second.answered.tolist() == [True, False, True] and second.label.tolist() == [2, -1, 2]
    assert second.scores[1].isnan().all()


def test_scores_that_say_nothing_are_none():
    games = seat()
    sure = [0.0, 0.0, 1.0]
    assert not Echoes(games).marked(answers(games, [0, 0, 0], [sure] * 3)).refused.any()


def test_the_last_answers_are_remembered(monkeypatch):
    monkeypatch.setattr(refusals, "HEARD", 3)
    games = seat(1)
    echoes = Echoes(games)
    rows = [[0.1, 0.2, v] for v in (0.3, 0.4, 0.5, 0.6, 0.7)]
    assert not echoes.marked(answers(games, [0] * 5, rows)).refused.any()
    again = [echoes.marked(answers(games, [0], [row])).refused.item() for row in reversed(rows[1:])]
    assert again == [True, True, True, False]


def test_digests_of_rows_that_differ_differ():
    scores = torch.randn(2000, 10, generator=torch.Generator().manual_seed(0))
    near = torch.nextafter(scores, scores + 1)
    assert len(digests(torch.cat([scores, near, scores])).unique()) == 4000


@pytest.mark.parametrize("feedback", ["label", "logits"])
def test_an_attacker_hears_echoes_where_there_are_scores(referee, feedback):
    """The second query of each game is answered as the first."""
    heard = []

    class Asks:
        def play(self, games):
            def twice():
                for grey in (0.2, 0.4, 0.6):
                    heard.append((yield from games.ask(torch.full((2, 1, 2, 2), grey))))

            yield from with_echoes(games, twice())

    def model(x, game, turn):
        return torch.stack([turn.clamp_min(2) + 0.1 * game, 0.3 * turn.clamp_min(2)], dim=1).float()

    threat = Threat(epsilon=0.1, budget=9, feedback=feedback)
    referee(model, torch.zeros(2, 1, 2, 2), torch.zeros(2).long(), threat).play(Asks())
    told = [a.refused.tolist() for a in heard]
    echo = feedback != "label"
    assert told == [[False] * 2, [echo] * 2, [False] * 2]
