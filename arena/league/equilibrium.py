"""The zero-sum game of a matrix: mixtures of defenders and of attackers (von Neumann 1928).

A defender is drawn from the mixture for each client, and plays its whole game. Of payoffs M [D,A], the
accuracy left of each pair, the defenders' mixture x solves (Dantzig 1951)

    maximise v   with  sum_d x_d M[d,a] >= v for every attacker a,  x >= 0,  sum x = 1,
                       sum_d x_d price_d <= cap for each cap,

and the attackers' mixture y the dual of it. Both are solved, each by HiGHS, and must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog

from arena.league.board import Equilibrium, Member
from arena.league.estimates import difference, share
from arena.league.grid import Grid
from arena.league.rates import Rate
from arena.league.ratings import resampled
from arena.messages import UserError
from arena.rules.outcome import Floats

RESAMPLES = 100
"""Of how often an agent is in the support: a standard error of 5 points at most."""
SPLITS = 5
"""In how many ways the images are halved."""
FEWEST = 4
GAP = 1e-7
"""The most by which primal and dual may differ."""
IN_SUPPORT = 1e-6


class SolverError(UserError):
    """The linear program was not solved."""


class NoMixture(SolverError):
    """No mixture keeps to the caps."""


@dataclass(frozen=True, eq=False)
class Cap:
    """A limit on the mean price of a mixture: `price` [D] of each defender, `most` of the mixture."""

    name: str
    price: Floats
    most: float


@dataclass(frozen=True, eq=False)
class Solution:
    """A solved game: mixtures of defenders x [D] and attackers y [A], its value, and the solver's words."""

    x: Floats
    y: Floats
    value: float
    gap: float
    status: str


def solve(payoffs: Floats, caps: Sequence[Cap] = ()) -> Solution:
    """The equilibrium of payoffs [D,A], which the defenders maximise.

    Raises:
        NoMixture: if the caps leave none.
        SolverError: if the solver does not end with an optimum, or primal and dual differ by more than `GAP`.
    """
    d, a = payoffs.shape
    prices, most = _priced(caps, d)
    primal = _primal(payoffs, prices, most)
    # The attackers choose y and what a unit of each cap is worth, and pay the most that a defender then gets.
    upper = np.hstack([payoffs, -prices.T, -np.ones((d, 1))])
    cost = np.concatenate([np.zeros(a), most, [1.0]])
    ones = np.concatenate([np.ones(a), np.zeros(len(caps) + 1)])
    dual = _optimum(cost, upper, np.zeros(d), ones, a + len(caps))
    value, gap = -float(primal.fun), float(dual.fun + primal.fun)
    if abs(gap) > GAP:
        raise SolverError(f"the equilibrium was not found: primal and dual differ by {gap:.2g}")
    return Solution(_mixture(primal.x[:d]), _mixture(dual.x[:a]), value, gap, str(primal.message))


def _priced(caps: Sequence[Cap], defenders: int) -> tuple[Floats, Floats]:
    """[caps,D] prices and [caps] the most of each."""
    prices = np.array([cap.price for cap in caps], np.float64).reshape(len(caps), defenders)
    return prices, np.array([cap.most for cap in caps], np.float64)


def _primal(payoffs: Floats, prices: Floats, most: Floats) -> Any:
    d, a = payoffs.shape
    upper = np.block([[-payoffs.T, np.ones((a, 1))], [prices, np.zeros((len(most), 1))]])
    bound = np.append(np.zeros(a), most)
    return _optimum(np.append(np.zeros(d), -1.0), upper, bound, np.append(np.ones(d), 0.0), d)


def _optimum(cost: Floats, upper: Floats, bound: Floats, ones: Floats, positive: int) -> Any:
    bounds = [(0, None)] * positive + [(None, None)]
    found = linprog(cost, upper, bound, ones[None], [1.0], bounds, method="highs")
    if found.status == 2:
        raise NoMixture("no mixture of the defenders keeps to the caps")
    if found.status != 0:
        raise SolverError(f"the equilibrium was not found: {found.message}")
    return found


def _mixture(x: Floats) -> Floats:
    x = np.maximum(x, 0.0)
    return np.asarray(x / x.sum())


def equilibrium(
    grid: Grid, caps: Sequence[Cap], left_out: Mapping[str, str], *, seed: int = 0, resamples: int = RESAMPLES
) -> Equilibrium:
    """The game of a grid whose pairs all have cells.

    The published mixtures are of all images. Their value is estimated by cross-fitting: mixtures of one half
    of the images, valued on the other, and the other way round, over `SPLITS` ways to halve them. By the
    minimax theorem no mixture x keeps more than the value against its best attacker, and no mixture y leaves
    less than it to its best defender, so that the interval reaches from what x keeps to what y leaves, each
    with its own interval. An attacker chosen on further images takes rather less than the best can, one
    chosen on the images that value it rather more: the mean of both stands for the best, for the
    exploitability too. The same for defenders.

    Raises:
        NoMixture, SolverError: as `solve`.
        UserError: if fewer than `FEWEST` images are in all cells.
    """
    left = 1 - grid.by_image.transpose(0, 2, 1)
    left = left[~np.isnan(left).any(axis=(1, 2))]
    n = len(left)
    if n < FEWEST:
        raise UserError(f"only {n} images are in all cells, and a mixture is chosen on half of them")
    random = np.random.default_rng(seed)
    whole = solve(left.mean(axis=0), caps)
    mixed, best, other, upper, alone = _valued(left, caps, random)
    value, low = share(mixed), share((best + other) / 2).low
    # Less what caps are worth, an image may leave less than 0, which is no share.
    high = (difference if caps else share)(upper).high
    pure = _best_pure(left.mean(axis=0), caps)
    in_x, in_y = _support(left, caps, random, resamples)
    return Equilibrium(
        value=Rate(value.value, min(value.low, low), max(value.high, high)),
        defenders=_members(grid.defenders, whole.x, in_x),
        attackers=_members(grid.attackers, whole.y, in_y),
        exploitability=_exploited(mixed, best, other),
        pure=grid.defenders[pure] if pure >= 0 else "",
        pure_value=share(alone[~np.isnan(alone)]),
        caps={cap.name: cap.most for cap in caps},
        left_out=left_out,
        status=whole.status,
        gap=whole.gap,
        images=n,
        gain=difference((mixed - alone)[~np.isnan(alone)]),
        prices={cap.name: float(cap.price @ whole.x) for cap in caps},
    )


def _exploited(mixed: Floats, best: Floats, other: Floats) -> Rate:
    """What the best attacker takes beyond the value, at least nothing: halfway between too much, by the
    attacker that is best on the images that value, and too little, by one chosen on others; from the low end
    of this to the high end of that."""
    value = difference(mixed - (best + other) / 2).value
    ends = difference(mixed - other).low, difference(mixed - best).high
    return Rate(max(0.0, value), max(0.0, min(value, ends[0])), max(0.0, value, ends[1]))


def _valued(
    left: Floats, caps: Sequence[Cap], random: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """[I] each, what an image leaves by choices that it did not help to make: where both mix, where the best
    attacker meets the defenders' mixture (by both choices of `_best`), where the best defender meets the
    attackers', and where the best single defender meets the attacker that was best against it."""
    prices, most = _priced(caps, left.shape[1])
    found = np.zeros((5, len(left)))
    for _ in range(SPLITS):
        halves = np.array_split(random.permutation(len(left)), 2)
        for own, other in (halves, halves[::-1]):
            means = left[own].mean(axis=0)
            x, y, paid = _mixtures(means, prices, most)
            met, faced = np.einsum("d,nda->na", x, left[other]), left[other] @ y - prices.T @ paid
            pure = _best_pure(means, caps)
            found[0, other] += met @ y
            found[1:3, other] += _best(met)
            found[3, other] += most @ paid - _best(-faced).mean(axis=0)
            found[4, other] += left[other][:, pure, means[pure].argmin()] if pure >= 0 else np.nan
    mixed, best, rest, upper, alone = found / SPLITS
    return mixed, best, rest, upper, alone


def _mixtures(means: Floats, prices: Floats, most: Floats) -> tuple[Floats, Floats, Floats]:
    """The mixtures of payoffs [D,A], and what a unit of each cap is worth."""
    found = _primal(means, prices, most)
    d, a = means.shape
    worth = -found.ineqlin.marginals
    return _mixture(found.x[:d]), _mixture(worth[:a]), np.maximum(worth[a:], 0.0)


def _best(met: Floats) -> Floats:
    """[2,n] of what images leave to each attacker [n,A], what they leave to the one that takes most: of these
    images, and of the half of them in which the image is not."""
    parts = np.array_split(np.arange(len(met)), 2)
    found = np.stack([met[:, met.mean(axis=0).argmin()]] * 2)
    for part, rest in (parts, parts[::-1]):
        found[1, part] = met[part, met[rest].mean(axis=0).argmin()]
    return found


def _best_pure(means: Floats, caps: Sequence[Cap]) -> int:
    """The defender that keeps most against its best attacker, of those that keep to the caps alone; -1 if
    none does."""
    allowed = np.ones(len(means), np.bool_)
    for cap in caps:
        allowed &= cap.price <= cap.most + 1e-9
    return int(np.where(allowed, means.min(axis=1), -1.0).argmax()) if allowed.any() else -1


def _support(
    left: Floats, caps: Sequence[Cap], random: np.random.Generator, resamples: int
) -> tuple[Floats, Floats]:
    """[D], [A] how often each agent is in the support over resamples of the images."""
    n, d, a = left.shape
    means = (resampled(left.reshape(n, -1), resamples, random) / n).reshape(resamples, d, a)
    found = [_mixtures(own, *_priced(caps, d)) for own in means]
    in_x, in_y = (np.mean([one[side] > IN_SUPPORT for one in found], axis=0) for side in (0, 1))
    return in_x, in_y


def _members(names: Sequence[str], mixture: Floats, support: Floats) -> list[Member]:
    found = [Member(*own) for own in zip(names, mixture.tolist(), support.tolist(), strict=True)]
    return sorted(found, key=lambda member: (-member.share, -member.support))
