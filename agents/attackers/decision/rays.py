"""RayS: search the rays at the corners of a cube for the shortest, flipping ever smaller blocks of signs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.claims import stand_by
from agents.parameters import check_parameters
from arena.players import Asking, Attacker, Games, Needs, Play
from arena.rules.purposes import CANDIDATE, SEARCH


@dataclass(frozen=True)
class RayS(Attacker):
    """RayS (Chen and Gu, KDD 2020), linf, untargeted.

    As in the authors' batched code: no randomness, nothing to tune, and no end before that of the budget. It
    needs no image to start from; until a corner of the box is adversarial the radius is infinite. The first
    direction is to the white image (the authors' code flips before it asks, and so begins with the black).

    Attributes:
        tolerance: the l2 length to which the boundary is located; in linf it is 1 / sqrt(d) of that.
    """

    tolerance: float = 1e-3

    needs = Needs(norms=("linf",), goals=("untargeted",))

    def __post_init__(self) -> None:
        check_parameters(self, positive=("tolerance",))

    def play(self, games: Games) -> Play:
        rays = Rays(games)
        while len(i := games.open):
            searching = rays.searching[i]
            yield from self.flip(games, rays, i[~searching])
            yield from self.search(games, rays, i[searching])

    def flip(self, games: Games, rays: Rays, i: Tensor) -> Asking:
        """Ask games `i` [n] at the radius reached with their next block flipped; if that is adversarial,
        search."""
        fooled = yield from games.fools(rays.at(rays.radius, i), i, CANDIDATE)
        rays.begin(i[fooled])
        rays.advance(i[~fooled])
        return games.state

    def search(self, games: Games, rays: Rays, i: Tensor) -> Asking:
        """Halve the brackets of games `i` [n]; the result is kept if it is nearer."""
        middle = (rays.benign + rays.adversarial) / 2
        fooled = yield from games.fools(rays.at(middle, i), i, SEARCH)
        rays.adversarial[i[fooled]], rays.benign[i[~fooled]] = middle[i[fooled]], middle[i[~fooled]]
        done = i[(rays.adversarial - rays.benign)[i] <= self.tolerance]
        nearer = done[(rays.adversarial < rays.radius)[done]]
        yield from stand_by(games, rays.at(rays.adversarial, nearer), nearer)
        rays.keep(nearer)
        rays.advance(done)
        return games.state


class Rays:
    """The state of the games: directions, radii, the block whose flip is being tried, brackets.

    Attributes:
        sign: [G,d], the best direction so far, -1 or +1.
        radius: [G] float64, l2 length at which it crosses the boundary; infinite before one has.
        level, block: [G] int64: which of 2^level equally long blocks of the flattened image is flipped.
        searching: [G] bool, whether that flip is adversarial at `radius`, and its own radius being searched.
        benign, adversarial: [G] float64, the bracket.
    """

    def __init__(self, games: Games) -> None:
        self.x0 = games.x0
        count, self.size = len(games), games.x0[0].numel()
        self.sign = -torch.ones_like(games.x0).flatten(1)  # the first flip turns all of it
        self.radius = torch.full((count,), math.inf, dtype=torch.float64, device=games.x0.device)
        self.benign, self.adversarial = torch.zeros_like(self.radius), self.radius.clone()
        self.level = torch.zeros_like(games.label)
        self.block = torch.zeros_like(games.label)
        self.searching = torch.zeros_like(games.label, dtype=torch.bool)
        self.corner = math.sqrt(self.size)
        self.finest = math.ceil(math.log2(self.size))
        self.places = torch.arange(self.size, device=games.x0.device)

    def at(self, radius: Tensor, i: Tensor) -> Tensor:
        """Images [n,C,H,W] of games `i` [n] at their `radius` [G] in the direction tried."""
        x0 = self.x0[i]
        step = radius[i].clamp_max(self.corner) / self.corner
        return (x0 + (step.unsqueeze(1) * self.tried(i)).float().view_as(x0)).clamp_(0, 1)

    def tried(self, i: Tensor) -> Tensor:
        """The directions [n,d] of games `i` [n] with the block flipped."""
        start, end = self.bounds(i)
        inside = (self.places >= start.unsqueeze(1)) & (self.places < end.unsqueeze(1))
        return torch.where(inside, -self.sign[i], self.sign[i])

    def bounds(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """Where the blocks of games `i` [n] begin and end, [n] each."""
        blocks = 1 << self.level[i]
        length = (self.size + blocks - 1) // blocks
        start = self.block[i] * length
        return start, (start + length).clamp_max(self.size)

    def begin(self, i: Tensor) -> None:
        """The flip was adversarial in games `i` [n]: search its radius."""
        self.searching[i], self.benign[i] = True, 0.0
        self.adversarial[i] = self.radius[i].clamp_max(self.corner)

    def keep(self, i: Tensor) -> None:
        """The flip and its radius become those of games `i` [n]."""
        self.sign[i], self.radius[i] = self.tried(i), self.adversarial[i]

    def advance(self, i: Tensor) -> None:
        """To the next block; after a level's last, to the level of half the length."""
        _, end = self.bounds(i)
        last = (end == self.size) | (self.block[i] + 1 == 1 << self.level[i])
        self.block[i] = torch.where(last, 0, self.block[i] + 1)
        self.level[i] = (self.level[i] + last.long()).clamp_max(self.finest)
        self.searching[i] = False
