"""G(x): one query of HopSkipJump's gradient estimation, played from x against the undefended classifier."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.defenders.parts.rehearsal import rehearse
from arena import draws
from arena.classifiers import Classifier
from arena.players import Claim, Resources, Volley, tell
from arena.rules.purposes import GRADIENT
from arena.rules.threat import Norm

ITERATIONS = 10
"""The query is from an iteration t drawn from 1 to this number."""
BOUNDARY_POINTS = 0.1
"""The share of G(x) that is x_t itself: PredCoin wants to detect both x_t and x_t + delta u."""
PROBES = 10
"""B_0, a tenth of HopSkipJump's: its path is less straight, but its queries lie as close to the boundary."""
DRAWS = 25
"""Draws of noise to start from, before an image of another class is used: a network may call all noise y."""
GRANTED = 100
"""The most images to start from."""
_FLOATS = 2**25
"""The most pixels of probes of a shard of games."""


def expected_queries(pixels: int) -> int:
    """About how many queries a game of `boundary_queries` takes on images of so many pixels and channels.

    Half of ten iterations, with their probes and a search that halves an interval of the size of 1 / d^1.5
    (l2) or 1 / d^2 (linf); on digits (d = 64) 150 to 157 were counted.
    """
    return round(90 + 10 * math.log2(pixels))


def boundary_queries(
    classifier: Classifier, x0: Tensor, label: Tensor, norm: Norm, *, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """One gradient-estimation query for each of the images `x0` [n,C,H,W] of the classes `label` [n].

    HopSkipJump as published, but with fewer probes (`PROBES`), is played from each image up to its iteration
    t; the result is its first query there, x_t + delta_t u, or in one game of ten x_t.

    Returns:
        The queries [n,C,H,W], and [n] bool: whether there is one. Draws are keyed to the place within `x0`.
    """
    found = torch.zeros(len(x0), dtype=torch.bool, device=x0.device)
    queries, key = x0.clone(), torch.arange(len(x0), device=x0.device)
    last = 1 + draws.integers(ITERATIONS, draws.derive(seed, "iteration"), key, 0, ())
    itself = draws.uniform(draws.derive(seed, "itself"), key, 0, ()) < BOUNDARY_POINTS
    granted = Resources(images=x0[:GRANTED], labels=label[:GRANTED])
    attacker = HopSkipJump(initial_probes=PROBES, init_draws=DRAWS, fallback=True)
    rows = max(1, _FLOATS // x0[0].numel())
    for shard in torch.split(key, max(1, rows // 8)):
        told = f"boundary queries ({norm})", int(shard[0]), len(x0)
        stage = _Stage(last[shard], itself[shard], queries[shard], found[shard], told)
        rehearse(
            attacker,
            classifier,
            x0[shard],
            label[shard],
            norm,
            stage.hear,
            seed=draws.derive(seed, "play"),
            key=shard,
            resources=granted,
            max_rows=min(rows, 4096),
        )
        queries[shard], found[shard] = stage.queries, stage.found
    return queries, found


class _Stage:
    """Waits until each of G games has reached its iteration `last` [G], and ends it there.

    HopSkipJump claims x_t at the beginning of iteration t, and asks the probes around it next. `told` is what
    is told of the progress: in which words, after how many games before these, and of how many.
    """

    def __init__(
        self, last: Tensor, itself: Tensor, queries: Tensor, found: Tensor, told: tuple[str, int, int]
    ) -> None:
        self.last, self.itself, self.queries, self.found, self.told = last, itself, queries, found, told
        self.iteration = torch.zeros_like(last)

    def hear(self, move: object) -> Tensor:
        if isinstance(move, Claim):
            what, before, of = self.told
            tell(what, before + int(self.found.sum()), of)
            self.iteration[move.game] += 1
            return self._take(move.x, move.game, self.itself[move.game])
        if isinstance(move, Volley) and move.purpose == GRADIENT:
            first = torch.ones_like(move.game, dtype=torch.bool)
            first[1:] = move.game[1:] != move.game[:-1]
            return self._take(move.x, move.game, first)
        return self.last[:0]

    def _take(self, x: Tensor, game: Tensor, fit: Tensor) -> Tensor:
        now = fit & (self.iteration[game] == self.last[game]) & ~self.found[game]
        ended = game[now]
        self.queries[ended], self.found[ended] = x[now], True
        return ended
