"""The games as they stand: dealt, replaced and told, beside what was lent and what is given away."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arena.game.board import Board
from arena.game.openings import Openings
from arena.rules.threat import Threat


def at(*games: int) -> Any:
    return np.array(games, np.int64)


def board(worlds: ModuleType, target: list[int] | None = None, **rules: Any) -> Board:
    """Three games on classes 0, 1 and 0, of 5 queries each."""
    x0 = worlds.images([(8, 4, 0, 8), (4, 8, 1, 2), (9, 3, 0, 5)])
    goal = {} if target is None else {"goal": "targeted"}
    threat = Threat(**{"epsilon": 4 / 16, "budget": 5, "accounts": 2, **goal, **rules})
    return Board(worlds.deal(x0, [0, 1, 0], key=[7, 8, 9], target=target), threat)


def test_games_begin_with_quantised_images_as_their_bests(worlds: ModuleType) -> None:
    x0 = torch.full((1, 1, 2, 2), 0.3)
    dealt = Board(worlds.deal(x0, [0]), Threat(epsilon=1, budget=5, quantisation="round"))
    assert dealt.x0.equal(torch.full((1, 1, 2, 2), 76 / 255))  # 0.3 is 76.5 / 255, and 76 is even
    assert dealt.best.equal(dealt.x0)
    assert dealt.ledger.is_open.tolist() == [True]
    dealt.best[:] = 1
    assert dealt.x0.max() < 1


def test_what_was_dealt_may_be_written_to(worlds: ModuleType) -> None:
    openings = worlds.deal(worlds.images([(8, 4, 0, 8)]), [0], key=[7], target=[2])
    dealt = Board(openings, Threat(epsilon=1, budget=5, goal="targeted"))
    for tensor in (openings.x0, openings.label, openings.key, openings.target):
        tensor.fill_(1)
    assert dealt.target is not None
    assert (dealt.x0[0, 0, 0, 0].item(), dealt.label.tolist()) == (0.5, [0])
    assert (dealt.key.tolist(), dealt.target.tolist()) == ([7], [2])


@pytest.mark.parametrize(
    ("target", "goal", "won"),
    [
        (None, [0, 1, 0], [False, True, True, True, False]),
        ([1, 2, 2], [1, 2, 2], [False, True, True, False, False]),
    ],
)
def test_a_label_wins_its_own_game(worlds: ModuleType, target: Any, goal: list[int], won: list[bool]) -> None:
    dealt = board(worlds, target)
    assert dealt.goal.tolist() == goal
    label, game = torch.tensor([0, 2, 2, 1, -1]), torch.tensor([2, 1, 2, 2, 1])
    assert dealt.wins(label, game).tolist() == won


def test_new_games_begin_in_the_places_of_others(worlds: ModuleType) -> None:
    dealt = board(worlds, target=[2, 2, 2], quantisation="floor")
    ledger, kept = dealt.ledger, dealt.x0[1].clone()
    ledger.queries[:] = [3, 4, 5]
    ledger.close(at(0, 1, 2), "budget")
    dealt.best[:] = 0.25
    x0 = torch.tensor([[[[0.3, 0.5], [0.1, 0.9]]], [[[0.7, 0.2], [0.6, 0.4]]]])
    dealt.put(at(2, 0), worlds.deal(x0, [1, 2], key=[20, 21], target=[0, 1]))
    assert dealt.x0[[2, 0]].equal((x0 * 255).floor() / 255)
    assert dealt.best[[2, 0]].equal(dealt.x0[[2, 0]])
    assert dealt.x0[1].equal(kept)
    assert dealt.best[1].eq(0.25).all()
    assert dealt.target is not None
    columns = [dealt.label, dealt.key, dealt.target]
    assert [column.tolist() for column in columns] == [[2, 1, 1], [21, 8, 20], [1, 2, 0]]
    assert ledger.queries.tolist() == [0, 4, 0]
    assert ledger.is_open.tolist() == [True, False, True]
    assert ledger.reason == [None, "budget", None]


def stand(dealt: Board) -> None:
    """Game 0 has asked twice, game 1 is over, an account of game 2 is closed."""
    dealt.ledger.queries[:] = [2, 5, 1]
    dealt.ledger.close(at(1), "budget")
    dealt.ledger.banned[2, 1] = True


def told(dealt: Board) -> list[Any]:
    game = torch.tensor([2, 0])
    no = torch.zeros(2, dtype=torch.bool)
    answers = dealt.standing(game, torch.tensor([1, -1]), None, ~no, no)
    assert answers.game.equal(game)
    assert answers.label.tolist() == [1, -1]
    assert (answers.answered.tolist(), answers.refused.tolist()) == ([True, True], [False, False])
    columns = [answers.left, answers.open, answers.playing, answers.banned]
    assert [column.dtype for column in columns] == [torch.int64, torch.bool, torch.int64, torch.bool]
    return [column.tolist() for column in columns]


STANDING = [
    [3, 0, 4],
    [True, False, True],
    [0, 2],
    [[False, False], [False, False], [False, True]],
]


def test_how_the_games_stand(worlds: ModuleType) -> None:
    dealt = board(worlds)
    stand(dealt)
    assert told(dealt) == STANDING
    assert dealt.asked(torch.tensor([2, 0, 1, 2])).tolist() == [1, 2, 5, 1]
    state = dealt.state()
    assert (len(state.game), len(state.label), len(state.answered), state.scores) == (0, 0, 0, None)
    assert [state.left.tolist(), state.open.tolist()] == STANDING[:2]


def test_one_copy_to_a_device_tells_the_same(worlds: ModuleType) -> None:
    copied = []

    class Elsewhere(Board):
        """As if on another device, whose memory is the host's."""

        @property
        def device(self) -> torch.device:
            return torch.device("meta")

        def place(self, games: Any) -> Tensor:
            copied.append(len(games))
            return torch.from_numpy(games)

    here = board(worlds)
    openings = Openings(here.x0, here.label, here.key)
    dealt = Elsewhere(openings, here.threat)
    stand(dealt)
    copied.clear()
    assert told(dealt) == STANDING
    assert copied == [3 + 3 + 6 + 2]


def test_what_is_told_is_the_attackers_to_write_to(worlds: ModuleType) -> None:
    dealt = board(worlds)
    stand(dealt)
    state = dealt.state()
    for tensor in (state.left, state.open, state.playing, state.banned):
        tensor.fill_(1)
    assert told(dealt) == STANDING
    before = dealt.state()
    dealt.ledger.close(at(0, 2), "resigned")
    assert before.open.tolist() == STANDING[1]
