"""Bypassing PredCoin's detector: HopSkipJump with probes that the detector lets pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.parts.estimates import BLOCK, Estimate, ask_probes, no_probes, unit
from agents.attackers.parts.twins import plain
from agents.parameters import check_parameters
from arena.players import Answers, Games, Move, Needs

RATIO = math.sqrt(2)
"""The ratio of the grid of sizes on which the smallest undetected size is searched."""
Scan = Generator[Move, Answers, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class BypassFQ(HopSkipJump):
    """HopSkipJump that bypasses F_Q (PredCoin, section 7.1, eq. 12).

    Each probe x_t + delta_b u_b has its own radius: the smallest that the detector lets pass, from
    HopSkipJump's delta up, on a grid of ratio sqrt 2. The attacker evaluates the detector itself (metered,
    not charged). Directions without such a radius are dropped; others are drawn in their place until B_t
    probes can be asked. If there is none at all, x_t stays. The note `valid-share` gives, for each estimate,
    the share of the directions tried that have such a radius (the paper's 6 %).

    Attributes:
        box: `clip`: probes are clipped to [0,1], radii go up to sqrt d, beyond which no image lies; `strict`:
            eq. 12 to the letter, only radii within the box, of which a saturated pixel leaves next to none.
        max_directions: directions tried, at most, for each of the B_t probes. 6 % had a valid one in the
            paper, which drew B_t directions: 1. To find B_t it takes about 17 times as many.
    """

    box: Literal["clip", "strict"] = "clip"
    max_directions: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, counts=("max_directions",))

    @property
    def twin(self) -> HopSkipJump:
        return plain(self, HopSkipJump)

    @property
    def needs(self) -> Needs:
        return replace(super().needs, knowledge="detector")

    def estimate(
        self, games: Games, x: Tensor, i: Tensor, delta: Tensor, probes: int | Tensor
    ) -> Generator[Move, Answers, Estimate]:
        """Probes that pass the detector, around the boundary points `x` [n,C,H,W] of games `i` [n].

        Directions are drawn in rounds of as many as probes are missing, so that a game's draws do not depend
        on other games.
        """
        sums = no_probes(games, i)
        wanted = torch.as_tensor(probes, device=i.device).expand(len(i))
        found, tried, passed = (torch.zeros_like(i) for _ in range(3))
        for _ in range(self.max_directions):
            blocks, done = -(-(wanted - found) // BLOCK), 0
            while len(rows := (games.state.open[i] & (blocks > done)).nonzero().squeeze(1)):
                u = self.directions(games, i[rows])
                radius, valid = yield from self.radii(games, x[rows], u, delta[rows], i[rows])
                tried[rows] += valid.shape[1]
                passed[rows] += valid.sum(dim=1)
                valid &= found[rows].unsqueeze(1) + valid.cumsum(dim=1) <= wanted[rows].unsqueeze(1)
                at, radius = x[rows].unsqueeze(1), radius.view(*radius.shape, 1, 1, 1)
                images = (at + radius * u).clamp_(0, 1)
                yield from ask_probes(games, i, rows, images, (images - at) / radius, sums, valid)
                found[rows] += valid.sum(dim=1)
                done += 1
        told = (tried > 0) & games.state.open[i]
        yield from games.note("valid-share", passed[told] / tried[told], i[told])
        return sums

    def directions(self, games: Games, i: Tensor) -> Tensor:
        """A block of random directions of length 1 in l2, [n,BLOCK,C,H,W]."""
        shape = (BLOCK, *games.x0.shape[1:])
        if games.threat.norm == "l2":
            return unit(games.normal(shape, i))
        return unit(games.uniform(shape, i).mul_(2).sub_(1))

    def radii(self, games: Games, x: Tensor, u: Tensor, delta: Tensor, i: Tensor) -> Scan:
        """delta_b [n,m] for directions `u` [n,m,C,H,W] from `x` [n,C,H,W], and whether it exists [n,m]."""
        m = u.shape[1]
        at, ways = x.repeat_interleave(m, dim=0), u.flatten(0, 1)
        first = delta.repeat_interleave(m)
        if self.box == "strict":
            room = torch.where(ways > 0, 1 - at, at) / ways.abs()  # inf or NaN for a pixel that does not move
            top = room.nan_to_num(nan=torch.inf, posinf=torch.inf).flatten(1).amin(dim=1)
        else:
            top = torch.full_like(first, math.sqrt(x[0].numel()))

        def image(radius: Tensor, rows: Tensor) -> Tensor:
            return (at[rows] + radius.view(-1, 1, 1, 1) * ways[rows]).clamp_(0, 1)

        radius, valid = yield from smallest_undetected(games, i.repeat_interleave(m), first, top, image)
        return radius.view(-1, m), valid.view(-1, m)


def smallest_undetected(
    games: Games, game: Tensor, size: Tensor, top: Tensor, image: Callable[[Tensor, Tensor], Tensor]
) -> Scan:
    """The smallest of the sizes `size` [n] times powers of sqrt 2, up to `top` [n], that is not detected.

    Args:
        game: [n], the games of the rows.
        image: the images [m,C,H,W] of sizes [m] of rows [m].

    Returns:
        The sizes [n], and whether one exists [n].
    """
    size, valid = size.clone(), torch.zeros_like(game, dtype=torch.bool)
    rows = ((size > 0) & (size <= top)).nonzero().squeeze(1)
    while len(rows):
        insight = (yield from games.consult(image(size[rows], rows), game[rows], "detector")).insight
        if insight is None:
            raise ValueError("bypassing a detector needs its scores; what was consulted did not tell them")
        passed = insight < 0
        valid[rows[passed]] = True
        rows = rows[~passed]
        size[rows] *= RATIO
        rows = rows[size[rows] <= top[rows]]
    return size, valid
