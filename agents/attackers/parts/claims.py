"""Which images an attacker stands by (docs/design.md, D3).

Where answers are facts, a hit is a hit. Where they are not, a wrong answer may be luck, and the nearest or
first is the luckiest: there a point is asked for again before it is believed. The answer that made it a
candidate does not count. It passes if all of m fresh repeats are wrong, m fixed beforehand with
theta^m <= 1 - c: that shows, at confidence c (exact, one-sided), that at least a share theta of its answers is
wrong; the first repeat that is not wrong ends the test. Repeats may cost a fixed share of the queries so far,
so that the beginning of a run does not depend on its budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from arena.players import Answers, Asking, Games, Move
from arena.rules.geometry import quantise
from arena.rules.threat import TOLERANCE

THETA, CONFIDENCE = 0.9, 0.95
"""A game is won for its attacker when its image is shown to be wrong so often, at this confidence."""
SHARE = 0.25
"""Of a game's queries so far, those that may be repeats."""
OUTWARD = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5)
"""How far beyond a boundary point its image is sought, relative to its distance from x0: under noise half the
answers at the boundary are right."""
REPEAT = "repeat"
"""The purpose of repeats. A wrapper that repeats queries itself asks each of them once."""

Measure = Callable[[Answers], Tensor]


@dataclass(frozen=True, eq=False)
class Repeats:
    """Fresh repeats of n images: how many [n] were wrong, asked for, answered; the sum of their losses."""

    wrong: Tensor
    asked: Tensor
    answered: Tensor
    loss: Tensor

    def __getitem__(self, rows: Tensor) -> Repeats:
        return Repeats(self.wrong[rows], self.asked[rows], self.answered[rows], self.loss[rows])


class Standing:
    """What the attacker at a seat of G games stands by; all [G].

    Attributes:
        wrong, asked: of the repeats of the image claimed, those answered wrong, and all.
        value: of two images equally believed, the one with the lower value is claimed.
        firm: the image claimed is shown to win its vote: more than half of its answers are wrong.
        spent: how many repeats the game has cost.
    """

    def __init__(self, games: Games) -> None:
        self.wrong = torch.zeros_like(games.label)
        self.asked, self.spent = self.wrong.clone(), self.wrong.clone()
        self.value = torch.full((len(games),), torch.inf, dtype=torch.float64, device=games.x0.device)
        self.firm = torch.zeros_like(games.label, dtype=torch.bool)

    @staticmethod
    def at(games: Games) -> Standing:
        """That of a seat, whichever of its attacker's procedures asks."""
        standing: Standing = games.kept.setdefault("standing", None) or Standing(games)
        games.kept["standing"] = standing
        return standing

    def affordable(self, games: Games, i: Tensor) -> Tensor:
        """[n] bool: whether games `i` [n] are open and may ask for repeats now."""
        asked = (games.threat.budget - games.left[i]) * games.row_cost
        return games.state.open[i] & (self.spent[i] < SHARE * asked)

    def better(self, i: Tensor, found: Repeats, value: Tensor) -> Tensor:
        """[n] bool: whether images of games `i` [n] are believed more than those claimed."""
        bound, before = lower_bound(found.wrong, found.asked), lower_bound(self.wrong[i], self.asked[i])
        return (bound > before) | ((bound == before) & (value < self.value[i]))

    def claim(self, games: Games, x: Tensor, i: Tensor, found: Repeats, value: Tensor) -> Asking:
        """Claim images `x` [n,C,H,W] of games `i` [n]."""
        self.wrong[i], self.asked[i], self.value[i] = found.wrong, found.asked, value.double()
        return (yield from games.claim(x, i))

    def repeat(
        self, games: Games, x: Tensor, i: Tensor, most: int, loss: Measure | None = None
    ) -> Generator[Move, Answers, Repeats]:
        """Ask for images `x` [n,C,H,W] of games `i` [n] until an answer is not wrong, or `most` were."""
        wrong, asked, answered = (torch.zeros_like(i) for _ in range(3))
        total, rows, times = x.new_zeros(len(i)), torch.arange(len(i), device=i.device), 1
        done = 0
        while len(rows) and done < most:
            times = min(max(1, done), most - done)
            answers = yield from games.ask(
                x[rows].repeat_interleave(times, 0), i[rows].repeat_interleave(times), REPEAT
            )
            done += times
            won = games.wrong(answers).view(-1, times).sum(dim=1)
            wrong[rows] += won
            answered[rows] += answers.answered.view(-1, times).sum(dim=1)
            asked[rows] += (answers.answered | answers.refused).view(-1, times).sum(dim=1)
            if loss is not None:
                told = torch.where(answers.answered, loss(answers), 0.0)
                total[rows] += told.view(-1, times).sum(dim=1)
            rows = rows[(won == times) & games.state.open[i[rows]]]
        self.spent[i] += asked
        return Repeats(wrong, asked, answered, total)


def stand_by(games: Games, x: Tensor, i: Tensor) -> Asking:
    """Stand by the points `x` [n,C,H,W] that games `i` [n] have reached, answered adversarial.

    Where answers are facts: under objective `submit`, points that are inside the ball as the service sees
    them are submitted; under the other objectives all are claimed. Where they are not: under `submit` the
    point on the ball's border in the same direction is repeated, submitted if it passes, and claimed if it is
    believed more than the one claimed; under `minimum` the nearest image is claimed that is shown to win its
    vote, at the point or somewhat beyond it.
    """
    if games.threat.objective == "first" or (games.answers_are_facts and games.threat.objective != "submit"):
        return (yield from games.claim(x, i))
    if games.threat.objective == "minimum":
        return (yield from _stand_near(games, x, i))
    seen = quantise(x, games.threat.quantisation)
    inside = games.distance(seen, i) <= games.threat.epsilon + TOLERANCE
    inside &= games.state.open[i]
    x, i = x[inside], i[inside]
    if games.answers_are_facts:
        return (yield from games.submit(x, i))
    far = games.distance(x, i)
    return (yield from weigh(games, _outward(games, x, i, games.epsilon / far.clamp_min(1e-12)), i, far))


def weigh(games: Games, x: Tensor, i: Tensor, value: Tensor) -> Asking:
    """Repeat images `x` [n,C,H,W] of games `i` [n] in the ball; submit or claim those that deserve it."""
    standing = Standing.at(games)
    may = standing.affordable(games, i)
    x, i, value = x[may], i[may], value[may]
    found = yield from standing.repeat(games, x, i, repeats_for(THETA))
    return (yield from settle(games, x, i, found, value))


def settle(games: Games, x: Tensor, i: Tensor, found: Repeats, value: Tensor) -> Asking:
    """Claim images `x` [n,C,H,W] of games `i` [n] that are believed more; submit those shown to be wrong."""
    standing = Standing.at(games)
    better = standing.better(i, found, value) & games.state.open[i]
    yield from standing.claim(games, x[better], i[better], found[better], value[better])
    shown = (found.wrong >= repeats_for(THETA)) & games.state.open[i]
    return (yield from games.submit(x[shown], i[shown]))


def _stand_near(games: Games, x: Tensor, i: Tensor) -> Asking:
    standing, most = Standing.at(games), repeats_for(0.5)
    sought = torch.ones_like(i, dtype=torch.bool)
    for factor in OUTWARD:
        candidate = _outward(games, x, i, torch.full_like(x[:, 0, 0, 0], factor))
        far = games.distance(quantise(candidate, games.threat.quantisation), i).double()
        sought &= ~standing.firm[i] | (far < standing.value[i])
        rows = (sought & standing.affordable(games, i)).nonzero().squeeze(1)
        if not len(rows):
            break
        found = yield from standing.repeat(games, candidate[rows], i[rows], most)
        firm = found.wrong >= most
        better = (firm | (~standing.firm[i[rows]] & standing.better(i[rows], found, far[rows]))).nonzero()
        own = better.squeeze(1)
        yield from standing.claim(games, candidate[rows[own]], i[rows[own]], found[own], far[rows[own]])
        standing.firm[i[rows[firm]]] = True
        sought[rows[firm]] = False
    return games.state


def _outward(games: Games, x: Tensor, i: Tensor, factor: Tensor) -> Tensor:
    """x0 + factor (x - x0), [n,C,H,W] within the box and, where it was inside, the ball."""
    x0 = games.x0[i]
    moved = torch.where(
        (factor == 1).view(-1, 1, 1, 1), x, (x0 + factor.view(-1, 1, 1, 1) * (x - x0)).clamp(0, 1)
    )
    return games.project(moved, i) if games.threat.objective == "submit" else moved


def repeats_for(theta: float) -> int:
    """m, the least with theta^m <= 1 - c: so many wrong answers, and no other, show a share of `theta`."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(theta))


def lower_bound(wrong: Tensor, asked: Tensor) -> Tensor:
    """[n] float64: the exact one-sided lower bound of a share at confidence c, from counts [n]."""
    return _bounds(repeats_for(THETA)).to(wrong.device)[asked, wrong]


@cache
def _bounds(most: int) -> Tensor:
    """[most + 1, most + 1] float64 by answers asked for, and wrong ones."""
    table = torch.zeros(most + 1, most + 1, dtype=torch.float64)
    for asked in range(1, most + 1):
        for wrong in range(1, asked + 1):
            table[asked, wrong] = _bound(wrong, asked)
    return table


def _bound(wrong: int, asked: int) -> float:
    """The share p with which as many wrong answers, or more, come with probability 1 - c; by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        p = (low + high) / 2
        tail = sum(math.comb(asked, k) * p**k * (1 - p) ** (asked - k) for k in range(wrong, asked + 1))
        low, high = (p, high) if tail < 1 - CONFIDENCE else (low, p)
    return low
