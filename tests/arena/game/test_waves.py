"""Volleys of rows that must be answered in order: which waves they come to, and that these are all of it."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.game.referee import Referee
from arena.game.waves import Wave, rank_within
from arena.rules.moves import Answers, Resign, Volley, VolleyError
from arena.rules.threat import Threat

IMAGES = [(8, 4, 8, 4), (4, 12, 4, 8), (9, 5, 8, 2)]
KINDS = ["game", "account", "service"]


@given(st.lists(st.integers(0, 4), max_size=12))
def test_rank_counts_the_earlier_equals(game: list[int]) -> None:
    expected = [game[:n].count(g) for n, g in enumerate(game)]
    assert rank_within(torch.tensor(game, dtype=torch.int64)).tolist() == expected


def answered_in_waves(referee: Referee, volley: Volley) -> tuple[list[Any], Answers]:
    """The answers, and of each wave: games, turns, accounts."""
    pending, waves = referee.receive(volley), []
    while isinstance(pending, Wave):
        rows = pending.rows
        waves.append([rows.game.tolist(), rows.turn.tolist(), rows.account.tolist()])
        assert pending.rank.tolist() == [0] * len(rows)
        assert rows.place.tolist() == [*range(len(rows))]
        pending = referee.release(pending, referee.oracle.respond(pending.x, rows))
    return waves, pending


def same(one: Any, other: Any) -> bool:
    """Whether dataclasses of tensors and numbers hold the same; NaN is equal to itself."""
    return all(str(getattr(one, f.name)) == str(getattr(other, f.name)) for f in fields(one))


def volley_of(
    place: list[int], account: list[int] | None = None, step: float = 1 / 16
) -> tuple[Tensor, Any, Any]:
    """Rows of these games: images, each another; games; accounts."""
    game = torch.tensor(place, dtype=torch.int64)
    x = torch.tensor(IMAGES, dtype=torch.float32)[game].view(-1, 1, 2, 2) / 16
    x[:, 0, 1, 1] += step * torch.arange(len(place))
    return x, game, None if account is None else torch.tensor(account, dtype=torch.int64)


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("memory", KINDS)
def test_a_volley_is_answered_as_the_volleys_of_its_waves(
    worlds: ModuleType, memory: str, random: bool
) -> None:
    threat = Threat(epsilon=4 / 16, budget=9, accounts=2, objective="submit")
    settings = {"threat": threat, "x0": worlds.images(IMAGES), "at": [2, 3], "key": [5, 3, 4], "seed": 1}
    whole, record = worlds.referee([worlds.warden(memory, random)], **settings)
    parts, expected = worlds.referee([worlds.warden(memory, random)], **settings)
    x, game, account = volley_of([1, 0, 0, 1, 2, 0], [0, 0, 1, 1, 0, 0])
    waves, answers = answered_in_waves(whole, Volley(x, game, account, "p"))
    assert waves == [
        [[0, 1, 2], [1, 1, 1], [0, 0, 0]],
        [[0, 1], [2, 2], [1, 1]],
        [[0], [3], [0]],
    ]
    assert whole.granted == 6
    rows = [torch.tensor(place) for place in ([1, 0, 4], [2, 3], [5])]
    found = [parts.ask(Volley(x[i], game[i], account[i], "p")) for i in rows]
    for i, part in zip(rows, found, strict=True):
        for name in ("label", "scores", "answered", "refused"):
            assert str(getattr(answers, name)[i]) == str(getattr(part, name)), name
    assert same(whole.state(), parts.state())
    assert answers.left.tolist() == found[-1].left.tolist() == [6, 7, 8]
    assert answers.game.tolist() == [1, 0, 0, 1, 2, 0]
    assert list(worlds.log_of(record)) == list(worlds.log_of(expected))
    assert str(worlds.marks_of(record)) == str(worlds.marks_of(expected))
    assert whole.oracle._memories[0].trace == parts.oracle._memories[0].trace
    assert same(whole.finish(), parts.finish())


@pytest.mark.parametrize("memory", KINDS)
def test_rows_see_what_the_rows_of_earlier_waves_left(worlds: ModuleType, memory: str) -> None:
    """A warden adds how much it remembers, modulo 3, to the first logit."""
    threat = Threat(epsilon=4 / 16, budget=20, accounts=2, objective="submit")
    referee, _ = worlds.referee([worlds.warden(memory)], threat=threat, x0=worlds.images(IMAGES[:2]))
    x, game, account = volley_of([0, 1, 0, 0], [0, 1, 1, 0], step=0)
    bare = worlds.classifier()(x)[:, 0].tolist()
    pending, seen = referee.receive(Volley(x, game, account)), []
    while isinstance(pending, Wave):
        response = referee.oracle.respond(pending.x, pending.rows)
        base = [bare[0] if g == 0 else bare[1] for g in pending.rows.game.tolist()]
        seen.append([score - b for score, b in zip(response.scores[:, 0].tolist(), base, strict=True)])
        pending = referee.release(pending, response)
    assert (
        seen
        == {
            "game": [[0, 0], [1], [2]],
            "account": [[0, 0], [0], [1]],
            "service": [[0, 0], [2], [0]],  # 3 rows before the last
        }[memory]
    )


@pytest.mark.parametrize("memory", KINDS)
def test_rows_of_games_that_close_drop_out_of_later_waves(worlds: ModuleType, memory: str) -> None:
    threat = Threat(epsilon=4 / 16, budget=2)
    referee, record = worlds.referee([worlds.warden(memory)], threat=threat, x0=worlds.images(IMAGES))
    referee.serve(Resign(torch.tensor([2])))
    x, game, _ = volley_of([0, 1, 2, 0, 1, 1, 0, 1], step=0)
    x[0, 0, 0] = torch.tensor([6, 8]) / 16  # another label, within the ball: a hit
    waves, answers = answered_in_waves(referee, Volley(x, game))
    assert waves == [[[0, 1], [1, 1], [0, 0]], [[1], [2], [0]]]
    assert referee.board.ledger.reason == ["hit", "budget", "resigned"]
    charged = answers.answered | answers.refused
    assert charged.tolist() == [True, True, False, False, True, False, False, False]
    assert answers.label[~answers.answered].eq(-1).all()
    assert answers.scores is not None
    assert answers.scores[~charged].isnan().all()
    assert (answers.left.tolist(), answers.open.tolist()) == ([1, 0, 2], [False] * 3)
    assert referee.granted == 3
    assert [row["game"] for row in worlds.log_of(record)] == [0, 1, 1]
    assert sorted(line[:2] for line in referee.oracle._memories[0].trace) == [(0, 1), (1, 1), (1, 2)]


def test_an_account_that_is_closed_on_the_way_refuses_the_rows_after(worlds: ModuleType) -> None:
    """Without memory, too: a warden bans at once what has the code 10."""
    threat = Threat(epsilon=1, budget=9, accounts=2, objective="submit")
    x0 = worlds.images([(8, 0, 1, 1), (9, 1, 1, 2)])
    referee, _ = worlds.referee([worlds.warden()], threat=threat, x0=x0)
    game, account = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 0])
    waves, answers = answered_in_waves(referee, Volley(x0[[0, 1, 1, 1]], game, account))
    assert [wave[0] for wave in waves] == [[0, 1], [0], [0]]
    assert answers.refused.tolist() == [True, True, False, False]
    assert answers.answered.tolist() == [False, False, True, True]
    assert answers.banned.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("memory", KINDS)
def test_a_volley_to_closed_games_is_answered_at_once(worlds: ModuleType, memory: str) -> None:
    referee, record = worlds.referee([worlds.warden(memory)], x0=worlds.images(IMAGES))
    referee.serve(Resign(torch.tensor([0, 2])))
    x, game, _ = volley_of([2, 0, 0])
    answers = referee.receive(Volley(x, game))
    assert isinstance(answers, Answers)
    assert answers.game.tolist() == [2, 0, 0]
    assert answers.label.tolist() == [-1] * 3
    assert not (answers.answered | answers.refused).any()
    assert answers.scores is not None
    assert answers.scores.shape == (3, 3)
    assert answers.scores.isnan().all()
    assert answers.open.tolist() == [False, True, False]
    assert referee.granted == 0
    assert record.query_rows == []
    empty = referee.receive(Volley(x[:0], game[:0]))
    assert isinstance(empty, Answers)
    assert len(empty.game) == 0


def test_answers_in_waves_hold_no_scores_where_labels_alone_are_answered(worlds: ModuleType) -> None:
    threat = Threat(epsilon=1, budget=9, feedback="label")
    referee, _ = worlds.referee([worlds.warden("game")], threat=threat)
    assert answered_in_waves(referee, Volley(referee.board.x0, torch.arange(2)))[1].scores is None


@pytest.mark.parametrize("memory", ["none", *KINDS])
def test_a_malformed_row_anywhere_charges_no_wave(worlds: ModuleType, memory: str) -> None:
    referee, record = worlds.referee([worlds.warden(memory)], x0=worlds.images(IMAGES))
    x, game, _ = volley_of([0, 0, 0])
    x[2] = 2
    with pytest.raises(VolleyError, match=r"^images must lie in \[0,1\]$"):
        referee.ask(Volley(x, game))
    assert record.query_rows == []
    assert referee.state().left.tolist() == [10] * 3
