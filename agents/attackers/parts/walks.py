"""What random walks along the boundary share: directions, proposals on the sphere around x0, and windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.attackers.parts.searches import clip_to
from arena.players import Games

TINY = 1e-30


def length(v: Tensor) -> Tensor:
    """The l2 length of each of `v` [n,C,H,W], summed in float64: [n].

    A walk converges at steps of 1e-7 of its distance, which is below the precision of float32 sums.
    """
    # In two stages, so that torch never splits the sum over an image among threads.
    rows = torch.linalg.vector_norm(v, dim=-1, dtype=torch.float64)
    lengths: Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return lengths


def orthogonal(v: Tensor, delta: Tensor, distance: Tensor) -> Tensor:
    """`v` without its component along `delta`, both [n,C,H,W], whose length is `distance` [n]."""
    along = (v * delta).sum(dim=-1, dtype=torch.float64).flatten(1).sum(dim=1)
    return v - delta * per_image(along / distance.square().clamp_min(TINY))


def around(x0: Tensor, delta: Tensor, v: Tensor, sigma: Tensor, distance: Tensor) -> Tensor:
    """The point of the sphere around x0 at sigma D from x0 + delta in direction `v` [n,C,H,W].

    x0 + (sigma D v / |v| + delta) / sqrt(1 + sigma^2), clipped to the box; without clipping it is at distance
    D = |delta| if v is orthogonal to delta. If v = 0 it is x0 + delta / sqrt(1 + sigma^2).
    """
    stretch = per_image(sigma * distance / length(v).clamp_min(TINY))
    return ((delta + v * stretch) * per_image((1 + sigma.square()).rsqrt())).add_(x0).clamp_(0, 1)


def towards(x0: Tensor, x: Tensor, share: Tensor) -> Tensor:
    """Move `x` [n,C,H,W] by a share [n] float64 of the way towards x0, clipped to the box."""
    return (x + (x0 - x) * per_image(share)).clamp_(0, 1)


def per_image(value: Tensor) -> Tensor:
    """[n] as float32 [n,1,1,1]."""
    return value.to(torch.float32).view(-1, 1, 1, 1)


def nearest_of_each(group: Tensor, far: Tensor) -> Tensor:
    """Index of the rows that are nearest, by `far` [m], in their `group` [m]; the first in a tie."""
    order = far.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    named = group[order]
    return order[torch.cat([torch.ones_like(named[:1]), named.diff()]) != 0]


class Window:
    """The last `size` outcomes of each of G games, in rings [G,size]."""

    def __init__(self, games: int, size: int, device: torch.device) -> None:
        self.size = size
        self.outcomes = torch.zeros(games, size, dtype=torch.bool, device=device)
        self.pushed, self.successes = torch.zeros(2, games, dtype=torch.int64, device=device)

    def push(self, i: Tensor, outcome: Tensor, known: Tensor) -> None:
        """Enter `outcome` [n] bool for those of games `i` [n] where `known` [n] bool."""
        place = self.pushed[i] % self.size
        leaving = self.outcomes[i, place]
        self.outcomes[i, place] = torch.where(known, outcome, leaving)
        change = outcome.long() - (leaving & self.full(i)).long()
        self.successes[i] += torch.where(known, change, 0)
        self.pushed[i] += known

    def full(self, i: Tensor) -> Tensor:
        """[n] bool: games `i` [n] have entered `size` outcomes since they were cleared."""
        full: Tensor = self.pushed[i] >= self.size
        return full

    def verdict(self, i: Tensor, low: float, high: float) -> Tensor:
        """[n] int64: +1 if a window is full and its rate of success is above `high`, -1 if below `low`."""
        rate, full = self.successes[i] / self.size, self.full(i)
        verdict: Tensor = (full & (rate > high)).long() - (full & (rate < low)).long()
        return verdict

    def clear(self, i: Tensor, where: Tensor) -> None:
        """Clear the outcomes of those of games `i` [n] where `where` [n] is True."""
        self.pushed[i] *= ~where
        self.successes[i] *= ~where


class SphereProposals:
    """Along the sphere of radius D = |x - x0|_2, then inwards; D is summed in float64."""

    def noise(self, games: Games, shape: Sequence[int], i: Tensor) -> Tensor:
        """Standard normal, [n,*shape], a draw of games `i` [n]."""
        return games.normal(shape, i)

    def distance(self, delta: Tensor) -> Tensor:
        """D of `delta` [n,C,H,W], [n] float64."""
        return length(delta)

    def across(self, x0: Tensor, delta: Tensor, distance: Tensor, sigma: Tensor, eta: Tensor) -> Tensor:
        """Points z [n,C,H,W] of the spheres, sigma D off x0 + delta in direction `eta` [n,C,H,W]."""
        return around(x0, delta, orthogonal(eta, delta, distance), sigma, distance)

    def inwards(self, x0: Tensor, z: Tensor, distance: Tensor, epsilon: Tensor) -> Tensor:
        """From z to distance (1 - epsilon) D; z itself if clipping has already brought it nearer."""
        far = length(z - x0)
        # At most to x0: a walk whose steps have grown above 1 must not come out on its other side.
        share = ((epsilon * distance + far - distance) / far.clamp_min(1e-30)).clamp(0, 1)
        return towards(x0, z, share)


class BoxProposals:
    """The same in l_inf: random signs within the box of radius r = |x - x0|_inf, then a smaller box."""

    def noise(self, games: Games, shape: Sequence[int], i: Tensor) -> Tensor:
        """Random signs, [n,*shape], a draw of games `i` [n]."""
        return games.integers(2, shape, i).mul_(2).sub_(1)

    def distance(self, delta: Tensor) -> Tensor:
        return delta.abs().flatten(1).amax(dim=1).double()

    def across(self, x0: Tensor, delta: Tensor, distance: Tensor, sigma: Tensor, eta: Tensor) -> Tensor:
        """x0 + Clip(delta + sigma r eta, -r, r), eta from {-1, 1}."""
        moved = delta + eta * (sigma * distance).float().view(-1, 1, 1, 1)
        return clip_to(x0, x0 + moved, distance)

    def inwards(self, x0: Tensor, z: Tensor, distance: Tensor, epsilon: Tensor) -> Tensor:
        """x0 + Clip(z - x0, -(1 - epsilon) r, (1 - epsilon) r)."""
        return clip_to(x0, z, (1 - epsilon).clamp_min(0) * distance)
