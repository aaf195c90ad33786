"""What an attacker leaves behind: neither its modes nor its writing reach the Referee or the defender."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from arena.game.referee import Referee
from arena.game.shard import play_games
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Games, Play
from arena.players.seat import Resources
from arena.rules.moves import Consult, Note, Submit, Volley
from arena.rules.threat import Knowledge, Threat

Script = Callable[[Games], Any]


def clean(games: Games) -> Volley:
    return Volley(games.x0, torch.arange(len(games)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_attacker_that_will_not_be_closed_leaves_no_grad_mode_behind(worlds: ModuleType) -> None:
    plays = []

    def script(games: Games) -> Play:
        with torch.inference_mode(), torch.no_grad():
            while True:
                try:
                    yield clean(games)
                except GeneratorExit:
                    yield clean(games)

    def kept(games: Games) -> Play:
        plays.append(script(games))
        return plays[0]

    worlds.played(kept)
    assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)
    plays.clear()
    gc.collect()
    assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_attackers_grad_mode_is_not_the_defenders(worlds: ModuleType, mode: Any) -> None:
    modes = []

    class Differentiating(worlds.Flip):  # type: ignore[misc,name-defined]
        def rewrite(self, scores: torch.Tensor, rows: Any) -> torch.Tensor:
            modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
            return scores

    def script(games: Games) -> Play:
        with mode():
            answers = yield Volley(games.x0 * 1.0, torch.arange(2))
            heard.append(answers)
            yield Consult(games.x0 * 1.0, torch.arange(2), "gradient")
            yield Submit(games.x0 * 1.0, torch.arange(2))

    heard: list[Any] = []
    threat = Threat(epsilon=1, budget=5, knowledge="weights", objective="submit")
    rows, _ = worlds.played(script, defenders=[Differentiating()], threat=threat, of=worlds.smooth())
    assert rows.reason == ["submitted", "submitted"]
    assert rows.insider_queries.tolist() == [1, 1]
    assert set(modes) == {(True, False)}
    assert not heard[0].scores.is_inference()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


# The seat is the attacker's own


def test_what_an_attacker_does_to_its_seat_and_its_answers_changes_no_game(worlds: ModuleType) -> None:
    def honest(games: Games) -> Play:
        for step in range(4):
            yield Volley((games.x0 + step / 16).clamp(0, 1), torch.arange(2), None, "p")
        yield from games.note("radius", torch.tensor([0.5, 0.25]), torch.arange(2))

    def vandal(games: Games) -> Play:
        x0 = games.x0.clone()
        for step in range(4):
            x, game = (x0 + step / 16).clamp(0, 1), torch.arange(2)
            answers = yield Volley(x, game, None, "p")
            assert games.target is not None
            for tensor in (x, game, games.x0, games.label, games.target, games.key):
                tensor.zero_()
            for name in (
                "game",
                "label",
                "scores",
                "answered",
                "refused",
                "left",
                "open",
                "playing",
                "banned",
            ):
                getattr(answers, name).zero_()
        value, game = torch.tensor([0.5, 0.25]), torch.arange(2)
        yield Note("radius", value, game)
        value.zero_()
        game.zero_()

    threat = Threat(epsilon=4 / 16, budget=10, goal="targeted", objective="submit")
    found = []
    for script in (honest, vandal):
        rows, record = worlds.played(
            script, threat=threat, target=[2, 2], key=[4, 5], defenders=[worlds.Noise(0.1)], at=[1, 3]
        )
        (note,) = record.note_rows
        ends = [
            rows.reason,
            rows.key.tolist(),
            rows.label.tolist(),
            rows.target.tolist(),
            rows.final.tolist(),
        ]
        remark = [note.game.tolist(), note.turn.tolist(), note.value]
        found.append(str([list(worlds.log_of(record)), worlds.marks_of(record), ends, remark]))
    assert found[0] == found[1]


def test_what_is_done_to_the_deal_afterwards_changes_no_game(worlds: ModuleType) -> None:
    of = worlds.classifier()
    deal = worlds.deal(worlds.images([(8, 4, 8, 4), (4, 12, 4, 8)]), [0, 1], target=[1, 2])
    threat = Threat(epsilon=0.5, budget=3, goal="targeted")
    referee = Referee(StackOracle(Stack(of), games=2), deal, threat)
    seat = referee.seat()
    for tensor in (deal.x0, deal.label, deal.key, deal.target):
        tensor.zero_()
    assert referee.board.x0.min() > 0
    assert referee.board.target is not None
    assert (referee.board.label.tolist(), referee.board.target.tolist(), referee.board.key.tolist()) == (
        [0, 1],
        [1, 2],
        [0, 1],
    )
    assert seat.target is not None
    assert (seat.label.tolist(), seat.target.tolist()) == ([0, 1], [1, 2])
    rows = referee.finish()
    assert rows.label.tolist() == [0, 1]
    assert rows.target.tolist() == [1, 2]


def test_seed_and_holdings_reach_the_seat_and_the_defense_where_it_may_be_known(worlds: ModuleType) -> None:
    seen = []

    def script(games: Games) -> Play:
        seen.append((games.uniform((2,)).tolist(), games.resources.images, games.defense))
        return
        yield

    images = torch.rand(3, 1, 2, 2)
    granted: list[tuple[Knowledge, int]] = [("none", 1), ("defense", 1), ("weights", 2)]
    for knowledge, seed in granted:
        referee, _ = worlds.referee(threat=Threat(epsilon=1, budget=1, knowledge=knowledge))
        seat = referee.seat(seed=seed, defense={"name": "none"}, resources=Resources(images))
        play_games(worlds.Scripted(script), referee, seat)
    assert seen[0][0] == seen[1][0] != seen[2][0]
    assert all(torch.equal(held, images) and held is not images for _, held, _ in seen)
    assert [defense for _, _, defense in seen] == [None, {"name": "none"}, {"name": "none"}]
