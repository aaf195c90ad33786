"""Verdicts where a defender remembers: a vote is what new clients meet, `again` what those meet who asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from arena import draws
from arena.game.referee import Referee
from arena.players import Defender, Response, Rows
from arena.rules.geometry import distances
from arena.rules.moves import Claim, Resign, Submit, Volley
from arena.rules.threat import Threat

Scope = Literal["none", "game", "account", "service"]
THREAT = Threat(epsilon=4 / 16, budget=10)
SUBMIT = THREAT.model_copy(update={"objective": "submit"})


@dataclass(frozen=True)
class Recalling(Defender):
    """Refuses what lies within `radius` (linf) of what it remembers of the game, account or service."""

    radius: float = 0.001

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        return []

    def _whose(self, rows: Rows) -> list[Any]:
        pairs = list(zip(rows.game.tolist(), rows.account.tolist(), strict=True))
        return [{"game": game, "account": (game, account)}.get(self.memory) for game, account in pairs]

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        refused = [
            any(whose == mine and bool((z - seen).abs().max() <= self.radius) for whose, seen in rows.memory)
            for mine, z in zip(self._whose(rows), x, strict=True)
        ]
        return replace(response, refused=torch.tensor(refused, dtype=torch.bool))

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory.extend(zip(self._whose(rows), x.clone(), strict=True))


@dataclass(frozen=True)
class Tiring(Defender):
    """Answers until it has remembered `after` rows of the game, account or service, and no more then."""

    after: int = 2
    memory: ClassVar[Scope] = "service"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Tensor:
        return torch.zeros((shape[0], accounts), dtype=torch.int64)

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        count = rows.memory[rows.game, rows.account]
        if self.memory == "service":
            count = rows.memory.sum().expand(len(rows))
        return replace(response, refused=count >= self.after)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory.index_put_((rows.game, rows.account), torch.ones_like(rows.game), accumulate=True)


@dataclass(frozen=True)
class Counting(Defender):
    """Looks up what it remembers by the turn, and fails where it does not remember all earlier turns."""

    memory: ClassVar[Scope] = "game"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Tensor:
        return torch.zeros(shape[0], dtype=torch.int64)

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        assert torch.equal(rows.memory[rows.game], rows.turn - 1)
        return response

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        assert torch.equal(rows.memory[rows.game], rows.turn - 1)
        rows.memory[rows.game] += 1


def of_memory(kind: type[Defender], memory: Scope, **parameters: Any) -> Defender:
    made: Defender = type(kind.__name__, (kind,), {"memory": memory})(**parameters)
    return made


def some_wrong(worlds: ModuleType) -> tuple[Tensor, Tensor, list[bool]]:
    """Clean images of 24 games, images to ask, and which of these are wrong and in the ball of THREAT."""
    x0 = worlds.images([(4 + k % 8, 6 + k // 8, 6, 10) for k in range(24)])
    x = x0[:, :, [0, 1]].flip(3).clone()
    x[:, :, 1] = x0[:, :, 1]
    of = worlds.classifier()
    wrong = [a != b for a, b in zip(worlds.truth(x0, of), worlds.truth(x, of), strict=True)]
    inside = (distances(x, x0)[1] <= 4 / 16 + 1e-6).tolist()
    won = [a and b for a, b in zip(wrong, inside, strict=True)]
    assert (sum(won), sum(wrong)) == (20, 21)
    return x0, x, won


def ask(referee: Referee, x: Tensor, *games: int, account: tuple[int, ...] | None = None) -> None:
    referee.serve(Volley(x, torch.tensor(games), None if account is None else torch.tensor(account)))


@pytest.mark.parametrize("memory", ["game", "account", "service"])
@pytest.mark.parametrize("objective", ["first", "submit", "minimum"])
def test_a_defender_that_refuses_only_what_it_saw_stops_nobody(
    worlds: ModuleType, memory: Scope, objective: Any
) -> None:
    x0, x, won = some_wrong(worlds)
    threat = THREAT.model_copy(update={"objective": objective})
    defender = of_memory(Recalling, memory)
    referee, record = worlds.referee([defender], threat=threat, x0=x0, at=[1, 2])
    ask(referee, x, *range(24))
    ask(referee, x[referee.open], *referee.open.nonzero()[0].tolist())
    rows = referee.finish()
    assert rows.answered.tolist() == rows.base.tolist() == won
    assert rows.vote.tolist() == won
    assert rows.again.tolist() == [0] * 24
    refused = [not w for w in won] if objective == "first" else [True] * 24
    assert rows.refused.tolist() == refused, "that it refused what it saw is not vacuous"
    marks = worlds.marks_of(record)
    for at in (1, 2):
        assert [marks[game, at]["vote"] for game in range(24)] == won
        assert [marks[game, at]["again"] for game in range(24)] == [0] * 24
    assert np.isnan([marks[game, 0]["again"] for game in range(24)]).all()


def test_without_memory_nobody_asks_again(worlds: ModuleType) -> None:
    referee, record = worlds.referee([worlds.Flip(0.5)], threat=SUBMIT, at=[1])
    ask(referee, referee.board.x0, 0, 1)
    assert np.isnan(referee.finish().again).all()
    assert np.isnan([mark["again"] for mark in worlds.marks_of(record).values()]).all()


def clean_and_wrong(worlds: ModuleType, games: int = 2) -> tuple[Tensor, Tensor]:
    """The same clean image for every game, and one in the ball that the classifier gets wrong."""
    x0, x = worlds.images([(8, 6, 8, 8)] * games), worlds.images([(6, 8, 8, 8)] * games)
    assert worlds.truth(x0, worlds.classifier()) != worlds.truth(x, worlds.classifier())
    return x0, x


def test_who_submits_or_claims_without_a_query_never_asked(worlds: ModuleType) -> None:
    x0, x = clean_and_wrong(worlds)
    referee, _ = worlds.referee([Tiring()], threat=SUBMIT, x0=x0)
    referee.serve(Claim(x, torch.arange(2)))
    referee.serve(Submit(x[:1], torch.tensor([0])))
    rows = referee.finish()
    assert np.isnan(rows.again).all()
    assert rows.vote.tolist() == [1, 1]


@pytest.mark.parametrize(("after", "again"), [(2, 0), (3, 1), (4, 1)])
def test_a_hit_is_asked_again_before_later_waves_are_remembered(
    worlds: ModuleType, after: int, again: int
) -> None:
    """The service remembers two rows in the wave of the hit, and a third and a fourth in later ones."""
    x0, x = clean_and_wrong(worlds)
    referee, _ = worlds.referee([Tiring(after)], threat=THREAT, x0=x0)
    ask(referee, torch.cat([x[:1], x0[[1, 1, 1]]]), 0, 1, 1, 1)
    ask(referee, x0[:1], 1)
    rows = referee.finish()
    assert rows.reason == ["hit", "resigned"]
    assert int(referee.oracle._memories[0].sum()) == 5
    assert (rows.vote.tolist(), rows.again.tolist()) == ([1, 0], [again, 0])


@pytest.mark.parametrize(("after", "again"), [(4, 0), (5, 1)])
def test_a_game_whose_budget_ends_is_asked_again_before_later_waves(
    worlds: ModuleType, after: int, again: int
) -> None:
    x0, x = clean_and_wrong(worlds)
    referee, record = worlds.referee(
        [Tiring(after)], threat=SUBMIT.model_copy(update={"budget": 3}), x0=x0, at=[1]
    )
    ask(referee, x0[:1], 1)
    ask(referee, x[[0, 0, 0]], 0, 0, 0)
    ask(referee, x0[[1, 1]], 1, 1)
    rows = referee.finish()
    assert rows.reason == ["budget", "budget"]
    assert (rows.vote.tolist(), rows.again.tolist()) == ([1, 0], [again, 0])
    assert worlds.marks_of(record)[0, 1]["again"] == 1


@pytest.mark.parametrize("how", ["resign", "submit", "finish"])
def test_a_game_that_is_given_up_is_asked_again_by_what_is_remembered_then(
    worlds: ModuleType, how: str
) -> None:
    """It has asked nothing since the mark, but the service has learnt from another game."""
    x0, x = clean_and_wrong(worlds)
    referee, record = worlds.referee([Tiring(3)], threat=SUBMIT, x0=x0, at=[1])
    ask(referee, x[:1], 0)
    ask(referee, x0[[1, 1]], 1, 1)
    if how == "resign":
        referee.serve(Resign(torch.tensor([0])))
    elif how == "submit":
        referee.serve(Submit(x[:1], torch.tensor([0])))
    rows = referee.finish()
    assert worlds.marks_of(record)[0, 1]["again"] == 1
    assert (rows.vote.tolist(), rows.again.tolist()) == ([1, 0], [0, 0])


@pytest.mark.parametrize(("accounts", "again"), [((0, 1, 1), 0), ((1, 1, 0), 1), ((1, 1, 2), 1)])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_account_that_asked_last_asks_again(
    worlds: ModuleType, accounts: tuple[int, ...], again: int, at_once: bool
) -> None:
    x0, x = clean_and_wrong(worlds, 1)
    threat = SUBMIT.model_copy(update={"accounts": 3})
    referee, record = worlds.referee([of_memory(Tiring, "account", after=2)], threat=threat, x0=x0, at=[3])
    if at_once:
        ask(referee, x[[0, 0, 0]], 0, 0, 0, account=accounts)
    else:
        for account in accounts:
            ask(referee, x, 0, account=(account,))
    assert worlds.marks_of(record)[0, 3]["again"] == again
    rows = referee.finish()
    assert (rows.vote.tolist(), rows.again.tolist()) == ([1], [again])


@dataclass(frozen=True)
class Banning(Recalling):
    """Bans whoever sends again what it remembers."""

    memory: ClassVar[Scope] = "service"

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        seen = [any(z.equal(other) for _, other in rows.memory) for z in x]
        return replace(response, banned=torch.tensor(seen, dtype=torch.bool))


def test_a_banned_account_is_answered_nothing_more(worlds: ModuleType) -> None:
    x0, x = worlds.images([(8, 6, 8, 8)]), worlds.images([(6, 8, 8, 8), (5, 8, 8, 8)])
    referee, _ = worlds.referee([Banning()], threat=SUBMIT, x0=x0)
    ask(referee, x[[0, 1, 1]], 0, 0, 0)
    referee.oracle._memories[0].clear()  # so that the ban alone can stop the answer
    rows = referee.finish()
    assert rows.reason == ["banned"]
    assert (rows.vote.tolist(), rows.again.tolist()) == ([1], [0])


def test_an_image_outside_the_ball_is_asked_for_and_never_wins(worlds: ModuleType) -> None:
    x0, x = worlds.images([(8, 6, 8, 8)]), worlds.images([(2, 8, 8, 8)])
    threat = THREAT.model_copy(update={"objective": "minimum"})
    referee, record = worlds.referee([Counting()], threat=threat, x0=x0, at=[1])
    ask(referee, x, 0)
    rows = referee.finish()
    assert rows.final.tolist() == x.tolist()
    assert rows.again.tolist() == [0.0], "False, not NaN"
    assert (rows.wrong.tolist(), rows.asked.tolist()) == ([[0, 0]], [[0, 0]])
    assert worlds.marks_of(record)[0, 1]["again"] == 0


def test_a_new_client_asks_its_first_query_and_an_old_one_its_next(worlds: ModuleType) -> None:
    """Counting fails where turn and memory do not belong together."""
    referee, record = worlds.referee([Counting()], threat=SUBMIT, at=[1, 2, 5])
    both = torch.arange(2)
    for _ in range(3):
        referee.serve(Volley(referee.board.x0.repeat(2, 1, 1, 1), both.repeat(2)))
    referee.serve(Claim(referee.board.x0, both))
    rows = referee.finish()
    assert rows.again.tolist() == [0, 0]
    assert len(worlds.marks_of(record)) == 2 * 4


def test_votes_of_a_random_defender_with_memory_are_counted_in_halves(worlds: ModuleType) -> None:
    """The vote's draws are those of a first query, and whoever asks again draws after them."""
    x0 = worlds.images([(8, 4 + k % 3, 8, 4) for k in range(40)])
    flips, defender = worlds.Flip(0.5), of_memory(Tiring, "game", after=9)
    for votes, halves in ((25, [13, 12]), (2, [1, 1]), (1, [1, 0])):
        referee, _ = worlds.referee(
            [defender, flips], threat=SUBMIT, x0=x0, votes=votes, seed=9, key=range(70, 110)
        )
        ask(referee, x0, *range(40))
        rows = referee.finish()
        seed, key = draws.derive(draws.derive(9, 1), "verdict"), torch.arange(70, 110)
        drawn = [draws.uniform(seed, key, 1, (), stream=16 * draw) < 0.5 for draw in range(votes)]
        first, second = torch.stack(drawn)[: halves[0]], torch.stack(drawn)[halves[0] :]
        assert rows.wrong.tolist() == torch.stack([first.sum(dim=0), second.sum(dim=0)], dim=1).tolist()
        assert rows.asked.tolist() == [halves] * 40
        assert rows.vote.tolist() == (rows.wrong.sum(axis=1) / votes).tolist()
        after = draws.uniform(seed, key, 2, (), stream=16 * votes) < 0.5
        assert rows.again.tolist() == after.tolist()
        assert {0, 1} == set(rows.again.tolist())


@pytest.mark.parametrize("quantisation", ["round", "floor"])
def test_what_is_handed_back_is_what_was_answered(worlds: ModuleType, quantisation: Any) -> None:
    """On the levels of 8 bits, at the distance told; and the service answers it as it answered then."""
    threat = Threat(epsilon=2 / 16, budget=3, quantisation=quantisation)
    x0 = worlds.images([(8, 7, 8, 8), (8, 10, 8, 8)])
    referee, _ = worlds.referee(threat=threat, x0=x0)
    x = referee.board.x0 + torch.tensor([-0.1037, 0.1013, 0.0333, 0.0]).view(1, 1, 2, 2)
    x[1] = referee.board.x0[1] + torch.tensor([0.1099, -0.1011, 0.0, 0.0]).view(1, 2, 2)
    ask(referee, x, 0, 1)
    rows = referee.finish()
    assert rows.reason == ["hit", "hit"]
    final = torch.from_numpy(rows.final)
    assert not final.equal(x)
    assert final.equal((final * 255).round() / 255)
    assert rows.linf.tolist() == distances(final, referee.board.x0)[1].tolist()
    asked_anew, _ = worlds.referee(threat=threat, x0=x0)
    ask(asked_anew, final, 0, 1)
    anew = asked_anew.finish()
    assert anew.reason == ["hit", "hit"]
    assert anew.final.tolist() == rows.final.tolist()
