"""Strengths of agents from the whole matrix, on Elo's scale.

Bradley and Terry (1952): attacker a wins an image of defender d with probability 1 / (1 + exp(s_d - s_a)).
Each image played in each cell is a bout, won in as far as it is lost by the ruling verdict. The likelihood
is maximised by Newton's method; one unit of s is 400 / ln 10 Elo points; the mean of all agents is 0.

Two images are added, one on which every attacker wins and one on which none does, and a normal prior of s
with a standard deviation of `SPREAD`: without them an agent that always wins or never has no finite
strength. The intervals are of a bootstrap over images, the two among them: where a resample lacks one, a
perfect record is held by the prior alone, so that its interval stays wide on the side on which nothing is
known.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from arena.league.board import Rating, Side
from arena.league.grid import Grid, image_means
from arena.league.rates import Rate
from arena.rules.outcome import Bools, Floats

ELO = 400 / math.log(10)
SPREAD = 5.0
"""Of the prior, in natural units: 870 Elo points."""
RESAMPLES = 1000
APART = "no games join it with the other agents"
NO_CELL = "none of its cells may be ranked"
_STEPS = 40


def ratings(grid: Grid, seed: int = 0) -> tuple[list[Rating], dict[str, str]]:
    """The agents of a grid, strongest first, with what has to be known: why the others have none, by name,
    and under "" that cells are missing."""
    attackers, defenders = _joined(grid)
    left_out = {
        name: APART if met.any() else NO_CELL
        for names, kept, table in (
            (grid.attackers, attackers, grid.there),
            (grid.defenders, defenders, grid.there.T),
        )
        for name, own, met in zip(names, kept, table, strict=True)
        if not own
    }
    if not attackers.any():
        return [], left_out
    lost = grid.lost[:, attackers][:, :, defenders]
    played = grid.played[:, attackers][:, :, defenders]
    bouts = image_means(np.where(played, lost, np.nan), grid.place, len(grid.images))
    strength = elo(bouts, np.random.default_rng(seed))
    value, low, high = strength[0], *np.quantile(strength[1:], (0.025, 0.975), axis=0)
    sides: list[tuple[Side, str]] = [
        *(("attacker", n) for n, kept in zip(grid.attackers, attackers, strict=True) if kept),
        *(("defender", n) for n, kept in zip(grid.defenders, defenders, strict=True) if kept),
    ]
    ends = zip(value.tolist(), np.minimum(value, low).tolist(), np.maximum(value, high).tolist(), strict=True)
    found = [Rating(name, side, Rate(*own)) for (side, name), own in zip(sides, ends, strict=True)]
    if np.isnan(bouts).all(axis=0).any():
        left_out[""] = "cells are missing: agents that did not meet are compared through those that met both"
    return sorted(found, key=lambda rating: -rating.rating.value), left_out


def elo(bouts: Floats, random: np.random.Generator, resamples: int = RESAMPLES) -> Floats:
    """[1 + resamples, A + D] ratings of attackers and defenders, of all images first, then of resamples.

    Args:
        bouts: [I,A,D] how far each image is lost, in [0,1]; NaN where it was not played.
    """
    n, a, d = bouts.shape
    known = ~np.isnan(bouts)
    met = known.any(axis=0).astype(np.float64)
    won = np.concatenate([np.where(known, bouts, 0.0).reshape(n, -1), [met.ravel(), 0 * met.ravel()]])
    count = np.concatenate([known.reshape(n, -1).astype(np.float64), [met.ravel()] * 2])
    units = np.concatenate([won, count], axis=1)
    sums = np.concatenate([units.sum(axis=0)[None], resampled(units, resamples, random)])
    strength = _fit(sums[:, : a * d].reshape(-1, a, d), sums[:, a * d :].reshape(-1, a, d))
    return np.asarray(ELO * (strength - strength.mean(axis=1, keepdims=True)))


def resampled(units: Floats, resamples: int, random: np.random.Generator) -> Floats:
    """[resamples,k] the sums of units [n,k] over resamples with replacement of all n; in pieces that
    fit the processor's cache."""
    n, sums = len(units), np.empty((resamples, units.shape[1]))
    piece = max(1, 2**18 // n)
    for first in range(0, resamples, piece):
        rows = min(piece, resamples - first)
        drawn = random.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        weight = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums[first : first + rows] = weight.astype(np.float64) @ units
    return sums


def _fit(won: Floats, count: Floats) -> Floats:
    """[B,A+D] the strengths that maximise likelihood and prior, of wins and bouts [B,A,D]."""
    b, a, d = won.shape
    s, prior = np.zeros((b, a + d)), SPREAD**-2
    diagonal = np.arange(a + d)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(np.clip(s[:, None, a:] - s[:, :a, None], -500, 500)))
        rest, curve = won - count * p, count * p * (1 - p)
        slope = np.concatenate([rest.sum(axis=2), -rest.sum(axis=1)], axis=1) - prior * s
        bend = np.zeros((b, a + d, a + d))
        bend[:, :a, a:] = -curve
        bend[:, a:, :a] = -curve.transpose(0, 2, 1)
        bend[:, diagonal, diagonal] = np.concatenate([curve.sum(axis=2), curve.sum(axis=1)], axis=1) + prior
        step = np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
        s += np.clip(step, -2, 2)  # far from the maximum a full step may overshoot
        if np.abs(step).max() < 1e-9:
            break
    return s


def _joined(grid: Grid) -> tuple[Bools, Bools]:
    """The attackers and defenders of the largest set that games join, as masks."""
    met = grid.played.any(axis=0)
    a, d = met.shape
    edges = np.zeros((a + d, a + d), np.bool_)
    edges[:a, a:] = met
    _, part = connected_components(csr_array(edges), directed=False)
    sizes = np.bincount(part, minlength=1)
    kept = (part == sizes.argmax()) & (sizes.max() > 1)
    return kept[:a], kept[a:]
