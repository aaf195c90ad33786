"""Which images an attacker stands by (docs/design.md, D3).

Where answers are facts, a hit is a hit. Where they are not, a wrong answer may be luck, and the nearest or
first is the luckiest: there a point is asked for again before it is believed. The answer that made it a
candidate does not count. It passes if all of m fresh repeats are wrong, m fixed beforehand with
theta^m <= 1 - c: that shows, at confidence c (exact, one-sided), that at least a share theta of its answers
is wrong; the first volley of repeats with another answer ends the test. Repeats may cost a fixed share of the
queries so far, so that the beginning of a run does not depend on its budget.
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
"""A game is handed in when its image is shown to be wrong in such a share of answers, at this confidence."""
SHARE = 0.25
"""Of a game's queries so far, those that may be repeats."""
OUTWARD = (1.0, 1.02, 1.05, 1.1, 1.2, 1.5)
"""How far beyond a boundary point its image is sought, relative to its distance from x0: under noise half the
answers at the boundary are right."""
REPEAT = "repeat"
"""The purpose of repeats. A wrapper that repeats queries itself asks each of them once."""

Measure = Callable[[Answers], Tensor]


def in_doubt(games: Games) -> bool:
    """Whether a wrong answer must be repeated before it is believed: answers are no facts, and the first hit
    does not end the game."""
    return not games.answers_are_facts and games.threat.objective != "first"


def stand_by(games: Games, x: Tensor, i: Tensor, *, last: bool = False) -> Asking:
    """Stand by the points `x` [n,C,H,W] that games `i` [n] (each once) have reached, answered adversarial.

    Where answers are facts: under objective `submit`, points that are inside the ball as the service sees
    them are submitted; under the other objectives all are claimed. Where they are not: under `submit` a point
    inside is moved to the ball's border and repeated there, submitted if it passes, and claimed if it is
    believed more than the image claimed; under `minimum` the nearest image is claimed that is shown to win
    its vote, at the point or somewhat beyond it. `last`: all queries left may be spent on this.
    """
    objective = games.threat.objective
    if not in_doubt(games):
        if objective == "submit":
            inside = inside_ball(games, x, i).nonzero().squeeze(1)
            return (yield from games.submit(x[inside], i[inside]))
        return (yield from games.claim(x, i))
    if objective == "minimum":
        return (yield from _stand_near(games, x, i, last))
    standing = Standing.at(games)
    rows = (inside_ball(games, x, i) & standing.affordable(games, i, last)).nonzero().squeeze(1)
    if not len(rows):
        return games.state
    x, i = x[rows], i[rows]
    far = games.distance(x, i)
    border = games.project(_outward(games, x, i, games.epsilon / far.clamp_min(1e-12)), i)
    found = yield from standing.repeat(games, border, i, repeats_for(THETA))
    return (yield from settle(games, border, i, found, far))


def settle(games: Games, x: Tensor, i: Tensor, found: Repeats, value: Tensor) -> Asking:
    """Claim images `x` [n,C,H,W] of games `i` [n] that are believed more; submit those that passed.

    Args:
        found: what their repeats were answered.
        value: [n], of two images equally believed the one with the lower is claimed.
    """
    standing = Standing.at(games)
    yield from standing.claim_where(games, standing.better(i, found, value), x, i, found, value)
    passed = ((found.wrong >= repeats_for(THETA)) & games.state.open[i]).nonzero().squeeze(1)
    return (yield from games.submit(x[passed], i[passed]))


@dataclass(frozen=True, eq=False)
class Repeats:
    """Fresh repeats of n images: how many [n] were wrong, asked for, answered; the sum of their losses."""

    wrong: Tensor
    asked: Tensor
    answered: Tensor
    loss: Tensor


class Standing:
    """What the attacker at a seat of G games stands by.

    Attributes:
        x: [G,C,H,W], the images claimed; the clean ones where none is.
        wrong, asked: [G], of the repeats of the image claimed, those answered wrong, and all.
        value: [G], +inf where none is claimed; of two images equally believed, the lower one is claimed.
        firm: [G] bool: the image claimed is shown to win its vote: more than half of its answers are wrong.
        spent: [G], how many repeats the game has cost.
    """

    def __init__(self, games: Games) -> None:
        self.x = games.x0.clone()
        self.wrong = torch.zeros_like(games.label)
        self.asked, self.spent = self.wrong.clone(), self.wrong.clone()
        self.value = torch.full((len(games),), torch.inf, dtype=torch.float64, device=games.x0.device)
        self.firm = torch.zeros_like(games.label, dtype=torch.bool)

    @staticmethod
    def at(games: Games) -> Standing:
        """That of a seat, whichever of its attacker's procedures asks."""
        standing: Standing | None = games.kept.get("standing")
        if standing is None:
            games.kept["standing"] = standing = Standing(games)
        return standing

    def affordable(self, games: Games, i: Tensor, last: bool = False) -> Tensor:
        """[n] bool: whether games `i` [n] are open and may ask for repeats now; `last`: of all left."""
        may = games.state.open[i]
        return may if last else may & (self.spent[i] < SHARE * games.charged[i])

    def better(self, i: Tensor, found: Repeats, value: Tensor) -> Tensor:
        """[n] bool: whether images of games `i` [n] are believed more than those claimed."""
        bound, before = lower_bound(found.wrong, found.asked), lower_bound(self.wrong[i], self.asked[i])
        return (bound > before) | ((bound == before) & (value < self.value[i]))

    def claim_where(
        self, games: Games, where: Tensor, x: Tensor, i: Tensor, found: Repeats, value: Tensor
    ) -> Asking:
        """Claim those images `x` [n,C,H,W] of games `i` [n], still open, where `where` [n] bool."""
        rows = (where & games.state.open[i]).nonzero().squeeze(1)
        own = i[rows]
        self.x[own], self.value[own] = x[rows], value[rows].double()
        self.wrong[own], self.asked[own] = found.wrong[rows], found.asked[rows]
        return (yield from games.claim(x[rows], own))

    def start_again(self, x: Tensor, i: Tensor) -> Tensor:
        """Where games `i` [n] whose search has come to rest at `x` [n,C,H,W] go on: the images claimed.

        Under noise a search rests where one lucky answer has taken it.
        """
        return torch.where(self.value[i].isfinite().view(-1, 1, 1, 1), self.x[i], x)

    def repeat(
        self, games: Games, x: Tensor, i: Tensor, most: int, loss: Measure | None = None
    ) -> Generator[Move, Answers, Repeats]:
        """Ask for images `x` [n,C,H,W] of games `i` [n] up to `most` times, in volleys of 1, 1, 2, 4, ...

        An image goes on as long as all its answers are wrong; a refusal is not wrong.
        """
        wrong, asked, answered = (torch.zeros_like(i) for _ in range(3))
        total, rows, done = x.new_zeros(len(i)), torch.arange(len(i), device=i.device), 0
        while len(rows) and done < most:
            times = min(max(1, done), most - done)
            again, of = x[rows].repeat_interleave(times, dim=0), i[rows].repeat_interleave(times)
            answers = yield from games.ask(again, of, REPEAT)
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


def _stand_near(games: Games, x: Tensor, i: Tensor, last: bool) -> Asking:
    standing, most = Standing.at(games), repeats_for(0.5)
    sought, inside = torch.ones_like(i, dtype=torch.bool), inside_ball(games, x, i)
    edge = games.threat.epsilon + TOLERANCE
    for factor in OUTWARD:
        candidate = _outward(games, x, i, torch.full_like(x[:, 0, 0, 0], factor))
        # Beyond the ball nothing is won: what is inside stays inside, and comes before what is not.
        candidate = torch.where(inside.view(-1, 1, 1, 1), games.project(candidate, i), candidate)
        far = games.distance(quantise(candidate, games.threat.quantisation), i).double()
        sought &= ~standing.firm[i] | (far < standing.value[i])
        rows = (sought & standing.affordable(games, i, last)).nonzero().squeeze(1)
        if not len(rows):
            break
        own, image, value = i[rows], candidate[rows], far[rows]
        found = yield from standing.repeat(games, image, own, most)
        firm, enters = found.wrong >= most, (value <= edge) & (standing.value[own] > edge)
        leaves = (value > edge) & (standing.value[own] <= edge)
        better = enters | firm | (~standing.firm[own] & standing.better(own, found, value))
        better &= ~leaves
        yield from standing.claim_where(games, better, image, own, found, value)
        standing.firm[own] = torch.where(better, firm, standing.firm[own])
        sought[rows] = ~firm
    return games.state


def inside_ball(games: Games, x: Tensor, i: Tensor) -> Tensor:
    """[n] bool: images `x` [n,C,H,W] are in the balls of games `i` [n] as the service sees them."""
    seen = quantise(x, games.threat.quantisation)
    return games.distance(seen, i) <= games.threat.epsilon + TOLERANCE


def _outward(games: Games, x: Tensor, i: Tensor, factor: Tensor) -> Tensor:
    """x0 + factor (x - x0), [n,C,H,W] within the box; `x` itself for a factor [n] of 1."""
    x0, factor = games.x0[i], factor.view(-1, 1, 1, 1)
    return torch.where(factor == 1, x, (x0 + factor * (x - x0)).clamp(0, 1))


def repeats_for(theta: float) -> int:
    """m, the least with theta^m <= 1 - c: so many wrong answers, and no other, show a share of `theta`."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(theta))


def lower_bound(wrong: Tensor, asked: Tensor) -> Tensor:
    """[n] float64: the exact one-sided lower bound of a share at confidence c, from counts [n]."""
    return _bounds(repeats_for(THETA), wrong.device)[asked, wrong]


@cache
def _bounds(most: int, device: torch.device) -> Tensor:
    """[most + 1, most + 1] float64 by answers asked for, and wrong ones."""
    table = torch.zeros(most + 1, most + 1, dtype=torch.float64)
    for asked in range(1, most + 1):
        for wrong in range(1, asked + 1):
            table[asked, wrong] = _bound(wrong, asked)
    return table.to(device)


def _bound(wrong: int, asked: int) -> float:
    """The share p with which as many wrong answers, or more, come with probability 1 - c; by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        p = (low + high) / 2
        tail = sum(math.comb(asked, k) * p**k * (1 - p) ** (asked - k) for k in range(wrong, asked + 1))
        low, high = (p, high) if tail < 1 - CONFIDENCE else (low, p)
    return low
