"""BlockDescent: move pixels towards the clean image, as long as the result stays adversarial (RamBo)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from agents.attackers.parts.circles import inner
from agents.attackers.parts.claims import stand_by
from arena.players import Answers, Games, Move, Play
from arena.rules.purposes import CANDIDATE

EMPTY_PASSES = 3
"""It ends after so many passes in a row without a query."""


@dataclass(frozen=True)
class BlockRule:
    """The parameters of BlockDescent: see `RamBo`."""

    block: int
    shrink: float
    reach: int
    percentile: float
    window: int
    least_gain: float


@dataclass(eq=False)
class BlockDescent:
    """BlockDescent on adversarial images `x` [G,C,H,W], changed in place, of all open games; l2.

    Attributes:
        epsilon: [G], the length of the steps in a pixel.
        order: [G,B,m], the positions of the blocks of this pass; place: [G], the block that comes next.
        asked: [G], queries; asked_before: at the beginning of the pass; empty: [G], passes in a row without
            queries.
        total: [G] float64, the sum of the distances after each query of this window; before: the mean of the
            previous window.
    """

    games: Games
    x: Tensor
    rule: BlockRule
    epsilon: Tensor = field(init=False)
    order: Tensor = field(init=False)
    place: Tensor = field(init=False)
    going: Tensor = field(init=False)

    def __post_init__(self) -> None:
        count, d = len(self.x), self.x[0].numel()
        self.blocks = max(1, d // self.rule.block)
        self.epsilon = percentile((self.x - self.games.x0).abs(), self.rule.percentile)
        zero = torch.zeros(count, dtype=torch.int64, device=self.x.device)
        self.order = zero.view(-1, 1, 1).repeat(1, self.blocks, min(d, self.rule.block))
        self.place = zero.clone()
        self.asked, self.asked_before, self.empty = zero.clone(), zero.clone(), zero.clone()
        self.total = torch.zeros_like(zero, dtype=torch.float64)
        self.before = torch.full_like(self.total, torch.inf)
        self.going = torch.ones_like(zero, dtype=torch.bool)

    def play(self) -> Play:
        """Play every game until it is slow, or has nothing left to ask."""
        self.shuffle(self.games.open)
        while len(i := self.games.open[self.going[self.games.open]]):
            gain = self.gains(i)
            falls = (gain < 0) & (torch.arange(self.blocks, device=i.device) >= self.place[i].unsqueeze(1))
            some, first = falls.max(dim=1)
            self.place[i] = torch.where(some, first, self.blocks)
            yield from self.ask(i[some])
            self.place[i[some]] += 1
            self.turn(i[self.place[i] >= self.blocks])

    def ask(self, i: Tensor) -> Generator[Move, Answers, None]:
        """Try the next blocks of games `i` [n]; adversarial and nearer images are kept."""
        games = self.games
        candidate = self.candidate(i)
        i, candidate = self._nearer(i, candidate)
        fooled = yield from games.fools(candidate, i, CANDIDATE)
        won = i[fooled]
        self.x[won] = candidate[fooled]
        yield from stand_by(games, self.x[won], won)
        self.asked[i] += 1
        self.total[i] += games.distance(self.x[i], i).double()
        self.judge(i[self.asked[i] % self.rule.window == 0])

    def judge(self, i: Tensor) -> None:
        """At the end of a window, stop games `i` [n] whose mean distance fell by less than `least_gain`."""
        mean = self.total[i] / self.rule.window
        self.going[i] &= self.before[i] - mean >= self.rule.least_gain
        self.before[i], self.total[i] = mean, 0.0

    def turn(self, i: Tensor) -> None:
        """Begin a new pass in games `i` [n], with smaller steps."""
        self.epsilon[i] /= self.rule.shrink
        none = self.asked[i] == self.asked_before[i]
        self.empty[i] = torch.where(none, self.empty[i] + 1, 0)
        self.going[i] &= self.empty[i] < EMPTY_PASSES
        self.asked_before[i] = self.asked[i]
        self.shuffle(i[self.going[i]])

    def shuffle(self, i: Tensor) -> None:
        order = self.games.uniform((self.x[0].numel(),), i).argsort(dim=1, stable=True)
        size = self.order.shape[2]
        self.order[i] = order[:, : self.blocks * size].view(len(i), self.blocks, size)
        self.place[i] = 0

    def stepped(self, i: Tensor) -> Tensor:
        """All pixels [n,C,H,W] of games `i` [n] moved by epsilon towards x0, possibly beyond it, within
        [0,1]."""
        x, x0 = self.x[i], self.games.x0[i]
        return (x + self.epsilon[i].view(-1, 1, 1, 1) * (x0 - x).sign()).clamp_(0, 1)

    def gains(self, i: Tensor) -> Tensor:
        """By how much each block [n,B] would change the squared distance; overlaps count twice."""
        x0, size = self.games.x0[i], 2 * self.rule.reach + 1
        change = (self.stepped(i) - x0).square() - (self.x[i] - x0).square()
        box = functional.avg_pool2d(change, size, stride=1, padding=self.rule.reach, divisor_override=1)
        order = self.order[i]
        found = box.flatten(1).gather(1, order.flatten(1)).view(order.shape)
        return found.sum(dim=2)

    def candidate(self, i: Tensor) -> Tensor:
        """The images [n,C,H,W] of games `i` [n] with the next blocks moved."""
        centres = torch.zeros_like(self.x[i])
        block = self.order[i, self.place[i]]
        centres.flatten(1).scatter_(1, block, 1.0)
        size = 2 * self.rule.reach + 1
        mask = functional.max_pool2d(centres, size, stride=1, padding=self.rule.reach)
        return torch.where(mask > 0, self.stepped(i), self.x[i])

    def _nearer(self, i: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
        """The games and candidates whose candidate is nearer to x0 than x is."""
        x0 = self.games.x0[i]
        new, old = candidate - x0, self.x[i] - x0
        nearer = inner(new, new) < inner(old, old)
        return i[nearer], candidate[nearer]


def percentile(x: Tensor, percent: float) -> Tensor:
    """The `percent`-th percentile [n] of the values of `x` [n,C,H,W], interpolated."""
    values = x.flatten(1).sort(dim=1).values
    at = percent / 100 * (values.shape[1] - 1)
    low = int(at)
    high = min(low + 1, values.shape[1] - 1)
    return torch.lerp(values[:, low], values[:, high], at - low)
