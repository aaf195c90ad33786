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
from arena.league.ratings import weights
from arena.messages import UserError
from arena.rules.outcome import Floats

RESAMPLES = 100
"""Of how often an agent is in the support: a standard error of 5 points at most."""
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
    of the images, valued on the other, and the other way round. What the best attacker takes beyond it, the
    exploitability, is of the attacker that takes most on the images that value, so that it is rather too high
    than too low.

    Raises:
        NoMixture, SolverError: as `solve`.
        UserError: if fewer than four images are in all cells.
    """
    left = 1 - grid.by_image.transpose(0, 2, 1)
    left = left[~np.isnan(left).any(axis=(1, 2))]
    n = len(left)
    if n < 4:
        raise UserError(f"only {n} images are in all cells, and a mixture is chosen on half of them")
    random = np.random.default_rng(seed)
    whole = solve(left.mean(axis=0), caps)
    mixed, attacked, alone = _valued(left, caps, random)
    pure = _best_pure(left.mean(axis=0), caps)
    in_x, in_y = _support(left, caps, random, resamples)
    return Equilibrium(
        value=share(mixed),
        defenders=_members(grid.defenders, whole.x, in_x),
        attackers=_members(grid.attackers, whole.y, in_y),
        exploitability=difference(mixed - attacked),
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


def _valued(left: Floats, caps: Sequence[Cap], random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """[I] what each image leaves, by mixtures that it did not help to choose: where both mix, where the best
    attacker of the images that value meets the mixture, and where the best single defender, too, meets the
    attacker that was best against it."""
    n = len(left)
    mixed, attacked, alone = np.empty(n), np.empty(n), np.empty(n)
    halves = np.array_split(random.permutation(n), 2)
    for own, other in (halves, halves[::-1]):
        means = left[own].mean(axis=0)
        chosen = solve(means, caps)
        met = chosen.x @ left[other]
        mixed[other] = met @ chosen.y
        attacked[other] = met[:, met.mean(axis=0).argmin()]
        pure = _best_pure(means, caps)
        alone[other] = left[other][:, pure, means[pure].argmin()] if pure >= 0 else np.nan
    return mixed, attacked, alone


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
    means = (weights(n, resamples, random) @ left.reshape(n, -1) / n).reshape(resamples, d, a)
    found = [_primal(own, *_priced(caps, d)) for own in means]
    in_x = np.mean([one.x[:d] > IN_SUPPORT for one in found], axis=0)
    in_y = np.mean([-one.ineqlin.marginals[:a] > IN_SUPPORT for one in found], axis=0)
    return in_x, in_y


def _members(names: Sequence[str], mixture: Floats, support: Floats) -> list[Member]:
    found = [Member(*own) for own in zip(names, mixture.tolist(), support.tolist(), strict=True)]
    return sorted(found, key=lambda member: (-member.share, -member.support))
