"""How a white box gets gradients of the classifier, and how it ends."""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from agents.attackers.parts.claims import Standing, in_doubt, stand_by
from arena.players import Answers, Asking, Games, Loss, Move

FINAL = "final"
"""The purpose of the only query that is charged, but for repeats."""


def gradient(
    games: Games, x: Tensor, i: Tensor, loss: Loss
) -> Generator[Move, Answers, tuple[Tensor, Tensor]]:
    """The gradients [n,C,H,W] and values [n] of the classifier's loss at `x` [n,C,H,W] of games `i` [n].

    Raises:
        ValueError: if the answers do not hold them.
    """
    answers = yield from games.consult(x, i, "gradient", loss)
    if answers.insight is None or answers.loss is None:
        raise ValueError("a white box needs gradients and losses; what was consulted did not tell them")
    return answers.insight, answers.loss


def hand_in(games: Games, x: Tensor, i: Tensor) -> Asking:
    """Ask for the final images `x` [n,C,H,W] of games `i` [n], and claim them.

    They are claimed whatever a defender answers: they fool the classifier, and the verdicts show both. Where
    answers are no facts, all queries left may go into repeats.
    """
    if in_doubt(games):
        first = Standing.at(games).value[i].isinf()
        yield from games.claim(x[first], i[first])
    alive = games.state.open[i]
    yield from games.ask(x[alive], i[alive], FINAL)
    return (yield from stand_by(games, x, i, last=True))
