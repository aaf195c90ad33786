"""Finds where on a path a label changes under noise: Bayesian bisection with a sigmoid of unknown shape.

PopSkipJump (Simon-Gabriel, Sheikh and Krause, ICML 2021), section 3: at place x of a path the answer is
adversarial with probability p(x) = nu + (1 - 2 nu) sigmoid(4 s (x - t)). The posterior of the place t of the
boundary, the slope s and the flip rate nu lies on a grid; each query goes where the mutual information
between its answer and (t, s, nu) is largest.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.searches import Path
from arena.players import Answers, Games, Move
from arena.rules.purposes import SEARCH

SLOPES_PER_DECADE, DECADES = 3, 3
FLIPS = (0.0, 0.1, 0.2, 0.3)
STEADY = 10
"""The search ends after so many answers in a row that moved the mode by at most one cell of the grid."""
STEPS = 200
"""The most queries of a search."""
LEVELS = (0.02, 0.08, 0.2, 0.35, 0.5, 0.65, 0.8, 0.92, 0.98)
"""Quantiles of t where a query is considered, besides both ends of the path, which reveal most about nu."""
SAFE = 0.98
"""The probability with which the place `beyond` lies on the adversarial side."""
_RESOLUTION = 2.0**32
"""Information is compared in multiples of 2^-32, so that equally good places tie in any batch."""


@dataclass(frozen=True, eq=False)
class NoisyBoundary:
    """What a search found about the boundaries on n paths.

    Attributes:
        t: [n] float64, the place where both answers are equally likely, in [0,1].
        beyond: [n] float64, the first place that is on the adversarial side with probability .98; inf if even
            the end of the path is not.
        slope: [n] float64, s: the reciprocal of the share of the path over which the answer changes.
        flips: [n] float64, nu.
    """

    t: Tensor
    beyond: Tensor
    slope: Tensor
    flips: Tensor


class Sigmoids:
    """The grid: places t = 0, 1/T, ..., 1; slopes s up to T, where the answer changes within a cell; flip
    rates nu.

    Attributes:
        slope, flips: [K] float64, of the K pairs of both.
        p: [2T+1,K] float64, the probability that a query (row - T) / T beyond t is answered adversarial.
        log_likelihood: [2,2T+1,K], of the answers benign and adversarial.
        entropy: [2T+1,K], of the answer, in nats.
    """

    def __init__(self, cells: int, device: torch.device) -> None:
        self.cells = cells
        count = SLOPES_PER_DECADE * DECADES + 1
        exponent = torch.arange(count, dtype=torch.float64, device=device) / SLOPES_PER_DECADE - DECADES
        slope, flips = torch.meshgrid(
            cells * 10**exponent, torch.tensor(FLIPS, dtype=torch.float64, device=device), indexing="ij"
        )
        self.slope, self.flips = slope.flatten(), flips.flatten()
        offset = torch.arange(-cells, cells + 1, dtype=torch.float64, device=device) / cells
        z = 4 * offset.unsqueeze(1) * self.slope
        self.p = (self.flips + (1 - 2 * self.flips) * z.sigmoid()).clamp(1e-7, 1 - 1e-7)
        self.log_likelihood = torch.stack([(1 - self.p).log(), self.p.log()])
        self.entropy = binary_entropy(self.p)


class Posterior:
    """The posterior of n paths: `log` [n,T+1,K] float64, log-probabilities up to a constant."""

    def __init__(self, grid: Sigmoids, n: int) -> None:
        self.grid = grid
        shape = (n, grid.cells + 1, len(grid.slope))
        self.log = torch.zeros(shape, dtype=torch.float64, device=grid.p.device)
        self.places = torch.arange(grid.cells + 1, device=grid.p.device)

    def update(self, rows: Tensor, place: Tensor, adversarial: Tensor) -> None:
        """Learn the answers [m] bool at places [m] (in cells) of paths `rows` [m]."""
        self.log[rows] += self.grid.log_likelihood[adversarial.long().unsqueeze(1), self._offsets(place)]

    def most_informative(self, rows: Tensor) -> Tensor:
        """The places [m], in cells, where an answer reveals most about (t, s, nu) of paths `rows` [m].

        I(y; t, s, nu) = H(E p) - E H(p), the largest among the places considered; the first of equals.
        """
        weight = self.log[rows].flatten(1).softmax(dim=1).view(len(rows), *self.log.shape[1:])
        candidates = self._candidates(weight)
        information = torch.stack([self._information(weight, place) for place in candidates.unbind(1)], dim=1)
        best = (information * _RESOLUTION).round().argmax(dim=1)
        return candidates.gather(1, best.unsqueeze(1)).squeeze(1)

    def mode(self, rows: Tensor) -> Tensor:
        """The likeliest place, slope and flip rate of paths `rows` [m], as indices into the grid [m,3]."""
        best = self.log[rows].flatten(1).argmax(dim=1)
        place, pair = best // len(self.grid.slope), best % len(self.grid.slope)
        return torch.stack([place, pair // len(FLIPS), pair % len(FLIPS)], dim=1)

    def boundary(self) -> NoisyBoundary:
        mode = self.mode(torch.arange(len(self.log), device=self.log.device))
        pair = mode[:, 1] * len(FLIPS) + mode[:, 2]
        below = self._cdf(self.log.flatten(1).softmax(dim=1).view_as(self.log))
        # A cell more: the boundary lies anywhere in the cell of the quantile.
        beyond = ((below < SAFE).sum(dim=1) + 1).double() / self.grid.cells
        return NoisyBoundary(
            t=mode[:, 0].double() / self.grid.cells,
            beyond=torch.where(beyond <= 1, beyond, torch.inf),
            slope=self.grid.slope[pair],
            flips=self.grid.flips[pair],
        )

    def _candidates(self, weight: Tensor) -> Tensor:
        below = self._cdf(weight)
        quantiles = torch.stack([(below < level).sum(dim=1) for level in LEVELS], dim=1)
        ends = torch.zeros_like(quantiles[:, :2])
        ends[:, 1] = self.grid.cells
        return torch.cat([quantiles.clamp_max(self.grid.cells), ends], dim=1)

    def _information(self, weight: Tensor, place: Tensor) -> Tensor:
        offsets = self._offsets(place)
        p = (weight * self.grid.p[offsets]).flatten(1).sum(dim=1)
        return binary_entropy(p) - (weight * self.grid.entropy[offsets]).flatten(1).sum(dim=1)

    def _cdf(self, weight: Tensor) -> Tensor:
        """Probabilities of t, at the places [m,T+1], rounded for the same reason as information is."""
        return (weight.sum(dim=2).cumsum(dim=1) * _RESOLUTION).round() / _RESOLUTION

    def _offsets(self, place: Tensor) -> Tensor:
        """Rows [m,T+1] of the grid's tables for queries at `place` [m], one for each place of t."""
        return place.unsqueeze(1) - self.places + self.grid.cells


def sigmoid_search(
    games: Games, i: Tensor, path: Path, grid: Sigmoids
) -> Generator[Move, Answers, NoisyBoundary]:
    """Find the boundaries on the paths of games `i` [n], benign at 0 and adversarial at 1."""
    posterior = Posterior(grid, len(i))
    every = torch.arange(len(i), device=i.device)
    mode, steady = posterior.mode(every), torch.zeros_like(every)
    for _ in range(STEPS):
        rows = ((steady < STEADY) & games.state.open[i]).nonzero().squeeze(1)
        if not len(rows):
            break
        place = posterior.most_informative(rows)
        answers = yield from games.ask(path(place.double() / grid.cells, rows), i[rows], SEARCH)
        known = answers.answered
        answered = rows[known]
        posterior.update(answered, place[known], games.wrong(answers)[known])
        now = posterior.mode(answered)
        still = ((now - mode[answered]).abs() <= 1).all(dim=1)
        steady[answered] = torch.where(still, steady[answered] + 1, 0)
        mode[answered] = now
    return posterior.boundary()


def alpha(slope: Tensor, flips: Tensor, offset: float) -> Tensor:
    """E[phi X] of answers phi = +-1 to X ~ N(0,1) [n], where p turns at `offset` with `slope` [n] (in sigma).

    With the sigmoid replaced by the ramp of its slope, by Stein's lemma:
    (1 - 2 nu) s (erf((o + 1/2s) / sqrt 2) - erf((o - 1/2s) / sqrt 2)). An estimate of the normal from n
    probes has E cos = (1 + (d - 1) / (n alpha^2))^(-1/2).
    """
    half = 0.5 / slope
    upper, lower = ((offset + sign * half).div(math.sqrt(2)).erf() for sign in (1, -1))
    return (1 - 2 * flips) * slope * (upper - lower)


def sharp_alpha(offset: float) -> float:
    """`alpha` of a step without flips: sqrt(2 / pi) exp(-offset^2 / 2)."""
    return math.sqrt(2 / math.pi) * math.exp(-(offset**2) / 2)


def binary_entropy(p: Tensor) -> Tensor:
    """The entropy of Bernoulli(p), in nats."""
    return -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)
