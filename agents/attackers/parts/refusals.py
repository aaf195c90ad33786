"""What an attacker sees of a service that refuses: refusals, and answers that it has heard before."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agents.attackers.parts.ranks import rank_within
from arena.players import Answers, Asking, Games, Move, Play, Volley, relay

_FACTOR = 0x5851F42D4C957F2D
"""An odd number whose powers modulo 2^64 weigh the scores of a row."""
HEARD = 1024
"""The last answers to a game that a new one is compared with."""


def with_echoes(games: Games, play: Play) -> Play:
    """Let an attacker at the seat `games` hear an echo as a refusal: scores that it was answered before.

    A defender that recognises a query may answer it as it did the earlier one it takes it for (`cached`), and
    tell nobody. No two images that differ have the same scores to the last bit, but where these say nothing
    (all of them 0 or 1), or are shares of few votes. With labels alone there is nothing to tell an echo by.
    """
    if games.threat.feedback == "label":
        yield from play
        return
    echoes = Echoes(games)

    def answer(move: Move) -> Asking:
        reply = yield move
        return echoes.marked(reply) if isinstance(move, Volley) else reply

    yield from relay(play, answer)


class Echoes:
    """Tells which answers G games have heard before.

    Attributes:
        heard: [G,HEARD] digests of the last answers, in a ring; 0 for none.
        count: [G] how many there were.
    """

    def __init__(self, games: Games) -> None:
        self.heard = torch.zeros(len(games), HEARD, dtype=torch.int64, device=games.x0.device)
        self.count = torch.zeros_like(games.label)

    def marked(self, answers: Answers) -> Answers:
        """`answers` with echoes refused: of earlier ones, or of earlier rows of the same volley."""
        scores = answers.scores
        if scores is None or not len(answers.game):
            return answers
        digest = digests(scores)
        told = answers.answered & ((scores != 0) & (scores != 1) & scores.isfinite()).any(dim=1)
        echo = (self.heard[answers.game] == digest.unsqueeze(1)).any(dim=1)
        echo = told & (echo | _again(answers.game, digest, told))
        self._hear(answers.game[told & ~echo], digest[told & ~echo])
        return replace(
            answers,
            label=torch.where(echo, -1, answers.label),
            scores=torch.where(echo.unsqueeze(1), torch.nan, scores),
            answered=answers.answered & ~echo,
            refused=answers.refused | echo,
            repeats=None,
        )

    def _hear(self, game: Tensor, digest: Tensor) -> None:
        rank, each = rank_within(game), torch.bincount(game, minlength=len(self.count))
        last = rank >= each[game] - HEARD  # others would be written over within this volley
        self.heard[game[last], (self.count[game[last]] + rank[last]) % HEARD] = digest[last]
        self.count += each


def digests(scores: Tensor) -> Tensor:
    """A number [n] int64 for each row of scores [n,K], that of rows which differ in a bit almost surely
    another."""
    weights = torch.full_like(scores[0], _FACTOR, dtype=torch.int64).cumprod(dim=0)
    return (scores.contiguous().view(torch.int32).long() * weights).sum(dim=1)


def _again(game: Tensor, digest: Tensor, told: Tensor) -> Tensor:
    """[n] bool: an earlier row of the game, among those that are `told` [n], has the same digest."""
    again, rows = torch.zeros_like(told), told.nonzero().squeeze(1)
    again[rows] = rank_within(digest[rows] + _FACTOR * game[rows]) > 0
    return again
