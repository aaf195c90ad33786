from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.parts.rehearsal import BUDGET, rehearse
from arena.classifiers import Classifier
from arena.game.blame import AttackerError
from arena.players import Attacker, Games, Move, Needs, Play, Submit, Volley

SHAPE = (1, 4, 4)


class FirstPixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x.flatten(1)[:, :3]


@pytest.fixture
def world() -> tuple[Classifier, Tensor, Tensor]:
    classifier = Classifier(FirstPixels(), shape=SHAPE, classes=3)
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    return classifier, x, x.flatten(1)[:, :3].argmax(dim=1)


@dataclass(frozen=True)
class Darker(Attacker):
    """Asks its images and darker ones, and hands in those of game 1 after two rounds."""

    heard: list[tuple[list[int], list[int], list[int]]]
    needs = Needs()

    def play(self, games: Games) -> Play:
        for n in range(4):
            i = games.open
            x = games.x0[i] / (n + 1)
            x[:, 0, 0, 0] = float(n % 2)
            answers = yield from games.ask(x, i, f"round {n}")
            self.heard.append((i.tolist(), answers.label.tolist(), games.left.tolist()))
            if n == 1:
                yield from games.submit(games.x0[1:2], torch.tensor([1]))


def nobody(move: Move) -> Tensor:
    return torch.zeros(0, dtype=torch.int64)


def test_labels_are_the_classifiers_and_queries_are_counted(world: tuple[Classifier, Tensor, Tensor]) -> None:
    classifier, x, label = world
    heard: list[tuple[list[int], list[int], list[int]]] = []
    rehearse(Darker(heard), classifier, x, label, "l2", nobody)
    first = x.clone()
    first[:, 0, 0, 0] = 0
    assert heard[0] == ([0, 1, 2, 3], first.flatten(1)[:, :3].argmax(dim=1).tolist(), [BUDGET - 1] * 4)
    assert [i for i, _, _ in heard] == [[0, 1, 2, 3]] * 2 + [[0, 2, 3]] * 2
    assert heard[1][1] == [0, 0, 0, 0]
    assert heard[3][2] == [BUDGET - 4, BUDGET - 2, BUDGET - 4, BUDGET - 4]


def test_a_listener_ends_games_before_their_rows_are_answered(
    world: tuple[Classifier, Tensor, Tensor],
) -> None:
    classifier, x, label = world
    moves: list[Move] = []

    def listen(move: Move) -> Tensor:
        moves.append(move)
        second = isinstance(move, Volley) and move.purpose == "round 1"
        return torch.tensor([0, 3] if second else [], dtype=torch.int64)

    heard: list[tuple[list[int], list[int], list[int]]] = []
    rehearse(Darker(heard), classifier, x, label, "linf", listen)
    assert heard[1][0] == [0, 1, 2, 3]
    assert heard[1][1] == [-1, 0, 0, -1]
    assert [i for i, _, _ in heard[2:]] == [[2], [2]]
    assert [type(m) for m in moves] == [Volley, Volley, Submit, Volley, Volley]


def test_the_play_ends_with_its_last_game(world: tuple[Classifier, Tensor, Tensor]) -> None:
    classifier, x, label = world
    heard: list[tuple[list[int], list[int], list[int]]] = []
    moves: list[Move] = []

    def listen(move: Move) -> Tensor:
        moves.append(move)
        return torch.arange(4)

    rehearse(Darker(heard), classifier, x, label, "l2", listen)
    assert heard[0] == ([0, 1, 2, 3], [-1] * 4, [BUDGET] * 4)
    assert [i for i, _, _ in heard[1:]] == [[]]
    assert len(moves) == 1


@dataclass(frozen=True)
class Insider(Attacker):
    def play(self, games: Games) -> Play:
        yield from games.consult(games.x0)


def test_an_insider_is_turned_away(world: tuple[Classifier, Tensor, Tensor]) -> None:
    classifier, x, label = world
    with pytest.raises(AttackerError, match="no insider's evaluations are served here"):
        rehearse(Insider(), classifier, x, label, "l2", nobody)
