"""What defenders with a history share, by a simple one: a query that equals an earlier one is an alarm."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.defenders.stateful.codes import CodeIndex
from agents.defenders.stateful.history import Action, Ring, Stateful
from arena.game.referee import Referee
from arena.players import Defender
from arena.rules.moves import Volley
from arena.rules.threat import Threat

THREAT = Threat(epsilon=4 / 16, budget=10, objective="submit")


@dataclass(frozen=True)
class Repeats(Stateful):
    def features(self, x: Tensor) -> Tensor:
        return (x * 255).round().flatten(1).to(torch.uint8)

    def index(self, shape: tuple[int, ...]) -> CodeIndex:
        return CodeIndex(self.capacity, 0.0)


def ask(referee: Referee, x: Tensor, *games: int, account: tuple[int, ...] | None = None) -> Any:
    return referee.ask(Volley(x, torch.tensor(games), None if account is None else torch.tensor(account)))


def world(
    worlds: ModuleType, *defenders: Defender, games: int = 2, accounts: int = 1
) -> tuple[Referee, Any, Tensor]:
    """Games on the same clean image, and other images to ask for."""
    threat = THREAT.model_copy(update={"accounts": accounts})
    referee, record = worlds.referee(defenders, threat=threat, x0=worlds.images([(8, 6, 8, 8)] * games))
    return referee, record, worlds.images([(6, 8, 8, 8), (5, 8, 8, 8), (4, 8, 8, 8), (3, 8, 8, 8)])


def flags_of(worlds: ModuleType, record: Any) -> list[bool]:
    return [row["flagged"] for row in worlds.log_of(record)]


def test_a_ring_keeps_the_last_rows_under_their_numbers() -> None:
    ring = Ring(5)
    added = torch.arange(17.0)
    for begin, end in ((0, 2), (2, 3), (3, 9), (9, 10), (10, 17)):
        ring.add(added[begin:end, None])
        count, held = end, sorted(ring.rows().squeeze(1).tolist())
        assert held == added[max(0, count - 5) : count].tolist()
        numbers = ring.numbers(torch.arange(len(ring)))
        assert ring.take(numbers).equal(ring.rows())
        assert ring.rows().squeeze(1).tolist() == numbers.tolist()
    ring.clear()
    assert len(ring) == 0
    ring.add(added[:1, None])
    assert ring.numbers(torch.tensor([0])).tolist() == [0]


def test_a_refused_query_is_told_and_one_flagged_silently_is_not(worlds: ModuleType) -> None:
    expected: list[tuple[Action, list[bool]]] = [
        ("reject", [False, True]),
        ("silent", [False, False]),
        ("cached", [False, False]),
    ]
    for action, refused in expected:
        referee, record, x = world(worlds, Repeats(action=action))
        answers = ask(referee, x[[0, 0]], 0, 0)
        assert answers.refused.tolist() == refused
        assert answers.answered.tolist() == [not r for r in refused]
        assert flags_of(worlds, record) == [False, True]


def test_a_banned_account_ends_its_game(worlds: ModuleType) -> None:
    referee, _, x = world(worlds, Repeats(action="ban", history="account"))
    answers = ask(referee, x[[0, 0, 1]], 0, 0, 0)
    assert answers.refused.tolist() == [False, True, False]
    assert answers.answered.tolist() == [True, False, False]
    assert answers.open.tolist() == [False, True]
    assert referee.finish().reason[0] == "banned"


def test_of_several_accounts_only_the_one_that_asked_is_closed(worlds: ModuleType) -> None:
    referee, _, x = world(worlds, Repeats(action="ban", history="account"), accounts=2)
    answers = ask(referee, x[[0, 0, 0]], 0, 0, 0, account=(0, 1, 0))
    assert answers.refused.tolist() == [False, False, True], "another account has a history of its own"
    assert answers.open.tolist() == [True, True]
    assert answers.banned[0].tolist() == [True, False]


def test_a_cached_answer_is_the_one_that_was_given_first(worlds: ModuleType) -> None:
    """Noise inside answers otherwise each time; the history around it gives the first answer again."""
    threat = THREAT.model_copy(update={"feedback": "logits"})
    x = worlds.images([(6, 8, 8, 8), (5, 8, 8, 8)])
    found = {}
    actions: list[Action] = ["cached", "silent"]
    for action in actions:
        defenders = [Repeats(action=action), worlds.Noise(0.3)]
        referee, _ = worlds.referee(defenders, threat=threat, x0=worlds.images([(8, 6, 8, 8)] * 2))
        found[action] = ask(referee, x[[0, 1, 0, 1, 0]], 0, 1, 0, 1, 1).scores
    assert found["cached"][[2, 3, 4]].equal(found["cached"][[0, 1, 0]])
    assert not found["silent"][[2, 3, 4]].eq(found["silent"][[0, 1, 0]]).any()


@pytest.mark.parametrize(("history", "flagged"), [("service", True), ("account", False)])
def test_whose_queries_are_compared(worlds: ModuleType, history: Any, flagged: bool) -> None:
    referee, record, x = world(worlds, Repeats(history=history))
    ask(referee, x[:1], 0)
    ask(referee, x[:1], 1)
    assert flags_of(worlds, record) == [False, flagged]


def test_rows_of_a_game_are_tested_in_order_and_those_of_a_wave_together(worlds: ModuleType) -> None:
    """Within a volley the second row of a game meets the first; the first rows of two games do not meet."""
    referee, _, x = world(worlds, Repeats())
    answers = ask(referee, x[[0, 0, 0, 1]], 0, 0, 1, 1)
    assert answers.refused.tolist() == [False, True, False, False]
    assert ask(referee, x[[1, 0]], 0, 1).refused.tolist() == [True, True]


def test_what_was_not_charged_leaves_no_trace(worlds: ModuleType) -> None:
    referee, _, x = world(worlds, Repeats(action="ban"))
    ask(referee, x[[0, 0, 1]], 0, 0, 0)  # the game is over after its second row
    assert ask(referee, x[1:2], 1).refused.tolist() == [False]


def test_the_oldest_are_forgotten(worlds: ModuleType) -> None:
    referee, record, x = world(worlds, Repeats(capacity=2, action="silent"))
    ask(referee, x[[0, 1, 0, 2, 1, 0]], *[0] * 6)
    assert flags_of(worlds, record) == [False, False, True, False, False, False]


def test_a_game_that_begins_anew_has_no_history(worlds: ModuleType) -> None:
    referee, record, x = world(worlds, Repeats(history="account", action="silent"), accounts=2)
    ask(referee, x[[0, 0, 1]], 0, 0, 1, account=(0, 1, 0))
    referee.oracle.forget(torch.tensor([0]))
    ask(referee, x[[0, 0, 1]], 0, 0, 1, account=(0, 1, 0))
    assert flags_of(worlds, record) == [False, False, False, False, True, False], "of game 1 alone"


def test_a_new_client_is_answered_and_the_one_that_asked_is_refused(worlds: ModuleType) -> None:
    """The verdicts `vote` (an empty memory) and `again` (memory as it stands)."""
    referee, _, x = world(worlds, Repeats())
    ask(referee, x[[0, 0]], 0, 1)
    rows = referee.finish()
    assert rows.answered.tolist() == [True, True]
    assert rows.vote.tolist() == [1, 1]
    assert rows.again.tolist() == [0, 0]


def test_what_one_inside_withheld_is_not_given_later(worlds: ModuleType) -> None:
    threat = THREAT.model_copy(update={"feedback": "logits"})
    inner = Repeats(action="reject", history="account")
    referee, _ = worlds.referee(
        [Repeats(action="cached"), inner], threat=threat, x0=worlds.images([(8, 6, 8, 8)])
    )
    answers = ask(referee, worlds.images([(6, 8, 8, 8)] * 3), 0, 0, 0)
    assert answers.refused.tolist() == [False, True, True]
    assert answers.scores[1:].isnan().all()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"history": "game"}, 'history must be one of "account", "service"; found "game"'),
        ({"action": "scold"}, 'action must be one of "reject", "cached", "silent", "ban"; found "scold"'),
        ({"capacity": 0}, "capacity must be from 1 to 10"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Repeats(**parameters)
