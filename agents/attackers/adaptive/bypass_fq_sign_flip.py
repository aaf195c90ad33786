"""Bypassing PredCoin's detector: the Sign Flip Attack with proposals that the detector lets pass."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from agents.attackers.adaptive.bypass_fq import smallest_undetected
from agents.attackers.decision.sign_flip import PERIOD, SignFlip, SignFlipWalk
from agents.attackers.parts.claims import in_doubt, stand_by
from agents.attackers.parts.starts import find_start
from agents.attackers.parts.twins import plain
from arena.players import Answers, Games, Move, Needs, Play

BARREN = 20
"""Iterations in a row in which nothing passes the detector, after which a game is given up."""


@dataclass(frozen=True)
class BypassFQSignFlip(SignFlip):
    """Sign Flip that bypasses F_Q (PredCoin, section 7.1); it has no radius of probes to vary.

    Our reading: of the two proposals of an iteration, the first is made with the smallest alpha, the second
    with the smallest share of flips, that the detector lets pass. Both are searched in steps of sqrt 2 from
    Sign Flip's own value up: to half the radius, and to half of all signs. The attacker evaluates the
    detector itself (metered, not charged). A proposal that never passes is not asked; a game in which none
    passes twenty times in a row is given up, with a note. The note `valid-share` gives, for every ten
    iterations, the share of the proposals of which some size passed.
    """

    @property
    def twin(self) -> SignFlip:
        return plain(self, SignFlip)

    @property
    def needs(self) -> Needs:
        return replace(super().needs, knowledge="detector")

    def play(self, games: Games) -> Play:
        x = yield from find_start(games, self.init_draws, fallback=self.fallback)
        i = games.open
        x[i] = yield from self.shrink(games, x[i], i)
        yield from stand_by(games, x[i], i)
        walk, asked, valid = (
            SignFlipWalk(self, games, x),
            torch.zeros_like(games.label),
            torch.zeros_like(games.label),
        )
        for t in count(1):
            i = games.open
            stuck = i[t - asked[i] > BARREN]
            yield from games.note("bypass-fq", "nothing passes the detector", stuck)
            if in_doubt(games):
                yield from stand_by(games, walk.image(stuck, walk.delta[stuck]), stuck, last=True)
                stuck = stuck[games.state.open[stuck]]
            yield from games.resign(stuck)
            if not len(i := games.open):
                return
            u = games.uniform((2, *walk.keep.shape[1:]), i)
            for which, proposal in enumerate((shorter, flipped)):
                tested = yield from attempt(walk, i, which, *proposal(walk, i, u[:, which]))
                asked[tested] = t
                valid[tested] += 1
            if t % PERIOD == 0:
                yield from games.note("valid-share", valid[i] / (2 * PERIOD), i)
                valid[i] = 0
                walk.adapt(i)


ProposePair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Perturbations [m,C,H,W] of sizes [m] for rows [m], and the signs kept [m,C,h,w] if it flips some."""
Proposal = tuple[tuple[Tensor, Tensor], ProposePair]
"""The first and the largest size [n], and the proposal to search."""


def shorter(walk: SignFlipWalk, i: Tensor, u: Tensor) -> Proposal:
    """The projection of games `i` [n] by uniform draws `u` [n,C,h,w]; its size is alpha."""
    alpha = walk.step(i)
    top = walk.length(walk.delta[i]) / 2 if walk.linf else torch.full_like(alpha, 0.5 / walk.shrink)
    return (alpha, top), lambda size, rows: (walk.project(i[rows], u[rows], size), None)


def flipped(walk: SignFlipWalk, i: Tensor, u: Tensor) -> Proposal:
    """The flip of games `i` [n] by uniform draws `u` [n,C,h,w]; its size multiplies the shares of flips."""
    due = 1 - walk.keep[i]

    def propose(size: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.where(u[rows] < 1 - size.float().view(-1, 1, 1, 1) * due[rows], 1.0, -1.0)
        return walk.flip(i[rows], kept), kept

    top = 0.5 / due.flatten(1).amax(dim=1).double()
    return (torch.ones_like(top), top), propose


def attempt(
    walk: SignFlipWalk, i: Tensor, which: int, sizes: tuple[Tensor, Tensor], propose: ProposePair
) -> Generator[Move, Answers, Tensor]:
    """Test the smallest undetected proposals; returns those of games `i` [n] for which one existed."""
    games = walk.games

    def image(size: Tensor, rows: Tensor) -> Tensor:
        return (games.x0[i[rows]] + propose(size, rows)[0]).clamp_(0, 1)

    first = torch.where(games.state.open[i], sizes[0], torch.inf)  # a game that has closed is left out
    size, valid = yield from smallest_undetected(games, i, first, sizes[1], image)
    rows = valid.nonzero().squeeze(1)
    delta, kept = propose(size[rows], rows)
    fooled = yield from walk.test(i[rows], delta, which)
    if kept is not None:
        walk.learn(i[rows[fooled]], kept[fooled])
    return i[rows]
