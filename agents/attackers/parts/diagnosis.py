"""What answers an attacker: tests on answered losses, scores and labels, for attackers that are not told.

All are pure functions. Decisions are exact one-sided tests at the level `ALPHA`; what they suppose of an
undefended classifier is written beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ALPHA = 0.1
"""The chance with which a test may see a defense that is not there. It is no smaller because a single game
with a single line must be able to decide; a shard of games decides far more surely."""
JAGGED = 1.5
"""From this von Neumann ratio of its steps on, a line is jagged: neighbouring steps correlate by a quarter at
most. So are .03 and .05 of the lines of undefended networks (digits, ResNet-20), .5 to .9 of those of AAA."""
PLAIN_JAGGED = 0.1
"""The most lines of an undefended classifier that are supposed to be jagged."""
JUMP = 0.6
"""The least share of the way within a step that a third with a jump has; in a straight step a third has 1/3,
and in half a period of a wave 1/2."""
WAVES_JUMP = 0.1
"""The most waves that are supposed to look as if they jumped: .04 of those of AAA-sine do, and .4 of the
largest steps of AAA-linear's lines are jumps (ResNet-20)."""
UNEVEN = 2.0
"""The noise of some images is larger than that of their median, and it is larger off x0 than at it: by this
factor, it is supposed, at most."""
NORMAL_MEDIAN = 0.6744897501960817
"""The median of |N(0, 1)|."""


@dataclass(frozen=True)
class Test:
    """How many of `of` observations spoke against a hypothesis, and how probable that many are under it."""

    count: int
    of: int
    p_value: float

    @property
    def rejects(self) -> bool:
        return self.p_value <= ALPHA + 1e-9  # which is rounded


def more_often_than(seen: Tensor, p: float) -> Test:
    """The exact one-sided test of the hypothesis that each of `seen` [n] bool has at most the probability
    `p`."""
    count, of = int(seen.sum()), len(seen)
    return Test(count, of, binomial_tail(count, of, p))


def binomial_tail(count: int, of: int, p: float) -> float:
    """P(X >= count) for X ~ Binomial(of, p), 0 <= p < 1."""
    if count <= 0:
        return 1.0
    if p == 0:
        return 0.0
    log = [math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) for k in range(count, of + 1)]
    terms = (c + k * math.log(p) + (of - k) * math.log1p(-p) for k, c in enumerate(log, start=count))
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def standard_deviation(one: Tensor, other: Tensor) -> float:
    """The standard deviation of one answer, from the values of n pairs of equal queries [n]: robust, from the
    median of |one - other|, which is .6745 sqrt(2) of it where the noise is normal; 0 without pairs."""
    return median((one.double() - other.double()).abs()) / (NORMAL_MEDIAN * math.sqrt(2))


def roughness(loss: Tensor, sd: float = 0.0) -> Tensor:
    """The von Neumann ratio [n] of the steps of losses [n,k+1] at equal distances along n lines.

    The mean of (d_j+1 - d_j)^2 over that of d_j^2, of the k >= 2 steps d: about 0 where the loss is smooth, 2
    where the steps are independent, 4 where they alternate. Noise of standard deviation `sd` adds 6 sd^2 to
    the first; what `UNEVEN` times this `sd` would add is taken off. 0 where nothing is left, or an answer is
    missing.
    """
    step = loss.double().diff(dim=1)
    turn = step.diff(dim=1).square().mean(dim=1) - 6 * (UNEVEN * sd) ** 2
    move = step.square().mean(dim=1)
    told = loss.isfinite().all(dim=1) & (turn > 0)
    return torch.where(told, turn / move, 0.0)


def folded(loss: Tensor, sd: float = 0.0) -> Test:
    """Whether losses [n,k+1] along n lines fold or jump: the hypothesis is that at most `PLAIN_JAGGED` of an
    undefended classifier's lines are jagged. The sizes of the losses must be so, too: a coin that exchanges
    the two largest scores only changes signs."""
    jagged = (roughness(loss, sd) >= JAGGED) & (roughness(loss.abs(), sd) >= JAGGED)
    return more_often_than(jagged, PLAIN_JAGGED)


def largest_step(loss: Tensor) -> Tensor:
    """The number [n] of the largest step of losses [n,k+1]."""
    return loss.diff(dim=1).abs().nan_to_num(nan=0.0, posinf=0.0).argmax(dim=1)


def jump_share(loss: Tensor) -> Tensor:
    """The largest of the steps of losses [n,k+1] within one step, as a share of their way [n]: about 1 for a
    jump, 1/k for a straight line. 0 where answers are missing."""
    step = loss.double().diff(dim=1).abs()
    way = step.sum(dim=1)
    return torch.where(way.isfinite() & (way > 0), step.amax(dim=1) / way.clamp_min(1e-300), 0.0)


def jumped(loss: Tensor) -> Tensor:
    """[n] bool: whether losses [n,k+1] jump against their slope, as mirrored ones do where a cell ends: one
    step has the share `JUMP`, and all others go the other way. Waves bend, but rarely so sharply."""
    step = loss.double().diff(dim=1)
    way = step.gather(1, step.abs().nan_to_num(nan=0.0, posinf=0.0).argmax(dim=1, keepdim=True)).sign()
    return (jump_share(loss) >= JUMP) & ((step.sign() * way < 0).sum(dim=1) == step.shape[1] - 1)


def jumps(loss: Tensor) -> bool:
    """Whether a folded loss jumps, from the largest steps of n lines, refined to losses [n,k+1]: the
    hypothesis is that it is a wave, where at most `WAVES_JUMP` of them look like jumps."""
    return more_often_than(jumped(loss), WAVES_JUMP).rejects


def period_of_jumps(loss: Tensor) -> float:
    """tau of a loss mirrored in cells of length tau (AAA-linear, eq. 4 with alpha = 1), from steps refined to
    losses [n,k+1]: the upper quartile of those that jump; NaN without one.

    A mirrored loss jumps by 2 tau, against its slope, whose part in the step with the jump is as large as the
    mean of the other steps. AAA falls short of its targets rather than beyond them.
    """
    step = loss.double().diff(dim=1).abs()[jumped(loss)]
    jump = step.amax(dim=1)
    slope = (step.sum(dim=1) - jump) / (step.shape[1] - 1)
    return float(((jump + slope) / 2).quantile(0.75)) if len(jump) else math.nan


WAVE_DEPTH = 0.9363
"""How far AAA-sine's answers go back in each period while the true loss goes on, in units of tau, at its
alpha of .7: 2 alpha sin(u) - u / pi where cos(u) = 1 / (2 pi alpha)."""


def period_of_waves(loss: Tensor) -> float:
    """tau of AAA-sine's wave from losses [n,k+1] along n lines: the median of how far each goes back at most,
    over `WAVE_DEPTH`. Lines miss crests: it is rather too low."""
    way = (loss[:, -1:] - loss[:, :1]).sign()
    onwards = (way * loss).double()
    back = (onwards.cummax(dim=1).values - onwards).amax(dim=1)
    back = back[back.isfinite() & (back > 0)]
    return float(back.quantile(0.5)) / WAVE_DEPTH if len(back) else math.nan


def swapped(one: Tensor, other: Tensor, tolerance: float = 1e-2) -> Tensor:
    """[n] bool: whether scores [n,K] and [n,K] are the same numbers with the two largest exchanged, as a coin
    does that answers with the second class. The same up to a share `tolerance` of the largest, which the two
    exchanged must exceed to be told from noise about a tie."""
    a, b = one.sort(dim=1, descending=True), other.sort(dim=1, descending=True)
    allowed = tolerance * a.values.abs().amax(dim=1, keepdim=True)
    close = ((a.values - b.values).abs() <= allowed).all(dim=1)
    apart = a.values[:, 0] - a.values[:, 1] > 2 * allowed.squeeze(1)
    crossed = (a.indices[:, 0] == b.indices[:, 1]) & (a.indices[:, 1] == b.indices[:, 0])
    return close & apart & crossed


def median(values: Tensor) -> float:
    """Of the finite ones of `values` [n]; 0 if there is none."""
    values = values[values.isfinite()].double()
    return float(values.quantile(0.5)) if len(values) else 0.0
