"""Half circles over the segment from x0 to a point x: on them the distance falls with the cosine of the
angle."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from agents.attackers.parts.estimates import unit
from arena.players import Games

ROUNDING = 1e-5
"""If no larger part of a direction lies across the segment, it counts as none: the rest is rounding."""


@dataclass(frozen=True, eq=False)
class Circles:
    """The half circles of n games with the diameter from x0 to x, in the plane of x - x0 and `across`.

    Attributes:
        x0: [n,C,H,W].
        ahead: [n,C,H,W], (x - x0) / D.
        across: [n,C,H,W], of unit length and orthogonal to `ahead`; 0 if there is none.
        diameter: [n] float64, D.
    """

    x0: Tensor
    ahead: Tensor
    across: Tensor
    diameter: Tensor

    @classmethod
    def over(cls, games: Games, x: Tensor, towards: Tensor, i: Tensor) -> Circles:
        """Over the segments from x0 to `x` [n,C,H,W] of games `i` [n], bent `towards` [n,C,H,W]."""
        delta = x - games.x0[i]
        ahead = unit(delta)
        bent = without(towards, ahead)
        straight = inner(bent, bent) <= ROUNDING**2 * inner(towards, towards)
        across = unit(bent).masked_fill(_rows(straight), 0.0)
        return cls(games.x0[i], ahead, across, inner(delta, delta).sqrt())

    def at(self, angle: Tensor, rows: Tensor) -> Tensor:
        """x0 + D cos a (cos a ahead + sin a across), [m,C,H,W], at angles a [m] float64 of `rows` [m].

        Angle 0 gives x, angle pi / 2 gives x0.
        """
        radius = self.diameter[rows] * angle.cos()
        point = self.x0[rows].double()
        point.add_(self.ahead[rows] * _rows(radius * angle.cos()))
        point.add_(self.across[rows] * _rows(radius * angle.sin()))
        return point.float().clamp_(0, 1)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner products [n] float64 of images `a` and `b` [n,C,H,W]."""
    # In two stages: torch splits the sum over a single large image among threads.
    return (a.double() * b).sum(dim=-1).flatten(1).sum(dim=1)


def without(v: Tensor, direction: Tensor) -> Tensor:
    """`v` [n,C,H,W] minus its part along unit vectors `direction` [n,C,H,W] (or 0)."""
    return (v - _rows(inner(v, direction)) * direction).float()


def _rows(value: Tensor) -> Tensor:
    """[n] as [n,1,1,1]."""
    return value.view(-1, 1, 1, 1)
