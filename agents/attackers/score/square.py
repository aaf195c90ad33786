"""Square Attack: random search along squares, at the border of the ball."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from agents.attackers.parts.choices import ChoicesAhead
from agents.attackers.score.random_search import Accept, Propose, check_period, falls, freeze, search
from arena.players import Attacker, Games, Loss, Needs, Play

STEPS_AHEAD = 32
DRAWN_BITS = 24
"""The random bits of a uniform draw: one draw holds the signs of so many channels."""


@dataclass(frozen=True)
class Square(Attacker):
    """Square Attack (Andriushchenko, Croce, Flammarion and Hein, ECCV 2020), l_inf and l_2.

    As in the authors' code, except that all choices are made for each image separately; there (in l_2), and
    in AAA's and QueryNet's code (in both norms), the whole batch shares them. The mean is the same, the
    variance lower.

    Attributes:
        p: the share of the pixels in a square at first (the paper: .05 in l_inf, .1 in l_2; .3 to .8 against
            robust networks).
        loss: what is minimised; None: the margin; targeted: the cross-entropy, as in the authors' code.
        schedule_length: N, the number of steps over which p is halved nine times.
        rescale: use the budget as N instead.
        refresh_every: ask the incumbent again every so many steps; 0: never. It corrects the winner's curse
            under a noisy defender: otherwise the lowest of all noisy answers stays the value to beat.
        clean_query: begin with a query of the clean image, as the code of AAA and QueryNet does, which counts
            it. Nothing is learnt from it.
    """

    p: float = 0.05
    loss: Loss | None = None
    schedule_length: int = 10_000
    rescale: bool = False
    refresh_every: int = 0
    clean_query: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"p must be above 0 and at most 1; found {self.p}")
        if self.schedule_length < 1:
            raise ValueError(f"schedule_length must be at least 1; found {self.schedule_length}")
        check_period("refresh_every", self.refresh_every)

    @property
    def needs(self) -> Needs:
        return Needs(feedback="scores", objectives=("first", "submit"), prefix=not self.rescale)

    def acceptance(self, games: Games) -> Accept:
        """The rule by which a candidate becomes the incumbent."""
        return falls

    def play(self, games: Games) -> Play:
        proposals = squares(games, self.p, self.length(games))
        yield from self.ask_clean(games)
        yield from self.descend(games, proposals.start(), proposals.propose)

    def length(self, games: Games) -> int:
        """N."""
        return games.threat.budget if self.rescale else self.schedule_length

    def ask_clean(self, games: Games) -> Play:
        """The query of the clean image, if there is to be one."""
        if self.clean_query:
            answers = yield from games.ask(games.x0[games.open], games.open, "clean")
            yield from freeze(games, games.x0, answers)

    def descend(self, games: Games, x: Tensor, propose: Propose) -> Play:
        """Search from `x` [G,C,H,W], the first incumbents."""
        yield from search(
            games,
            x,
            propose,
            self.acceptance(games),
            loss=self.loss_in(games),
            refresh_every=self.refresh_every,
        )

    def loss_in(self, games: Games) -> Loss:
        """What is minimised in these games."""
        return self.loss or ("cross-entropy" if games.threat.targeted else "margin")


def halvings(step: int, length: int) -> int:
    """The number of halvings of p up to a step (from 0) of a schedule of `length` steps."""
    return bisect_left((10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000), int(step / length * 10_000))


def squares(games: Games, p: float, length: int) -> Squares:
    """The proposals in the threat's norm; `p` is the share of pixels at first, `length` the schedule's."""
    kind = LinfSquares if games.threat.norm == "linf" else L2Squares
    return kind(games, shares(p, length))


def shares(p: float, length: int) -> Callable[[int], float]:
    """The share of the pixels by step: `p` at first, halved over a schedule of `length` steps."""
    return lambda step: p * 0.5 ** halvings(step, length)


class Squares(ABC):
    """The proposals: `start`, and at each step a square of side s, round(sqrt(p H W)) within limits.

    A square begins at a row from {0, ..., H - s - 1} and a column from {0, ..., W - s - 1}: as in the
    authors' code, it never covers the last row or column.
    """

    def __init__(self, games: Games, share: Callable[[int], float]) -> None:
        self.games, self.share, self.epsilon = games, share, games.epsilon
        self.channels, self.height, self.width = games.x0.shape[1:]
        self.ahead = ChoicesAhead(games, STEPS_AHEAD, self.choose)

    @abstractmethod
    def start(self) -> Tensor:
        """The first images, [G,C,H,W]."""

    @abstractmethod
    def propose(self, t: int, x: Tensor, i: Tensor) -> Tensor:
        """The candidates [n,C,H,W] at step t from the incumbents `x` [n,C,H,W] of games `i` [n]."""

    @abstractmethod
    def choose(self, first: int, steps: int, i: Tensor) -> tuple[Tensor, ...]:
        """The random choices of steps `first`, ... for games `i` [n], each [steps,n,...]."""

    @abstractmethod
    def fit(self, side: int) -> int:
        """The side that is used for `side`, within the limits of the norm's proposals."""

    def side(self, t: int) -> int:
        """The side s of the square at step t."""
        return self.fit(round(math.sqrt(self.share(t) * self.height * self.width)))

    def corner(self, first: int, u: Tensor, v: Tensor) -> Tensor:
        """Where windows begin in a flattened image, [steps,n,1,1], from uniform `u` and `v` [steps,n]."""
        sides = [[self.side(t)] for t in range(first, first + len(u))]
        side = torch.tensor(sides, device=u.device)
        row = (u * (self.height - side).clamp_min(1)).long()
        column = (v * (self.width - side).clamp_min(1)).long()
        return (row * self.width + column)[..., None, None]

    def window(self, t: int, corner: Tensor) -> Tensor:
        """Where the pixels of windows that begin at `corner` [n,1,1] are in flattened images, [n,C,s*s]."""
        pixels = window_pixels(self.side(t), self.width, corner.device)
        return (corner + pixels).expand(-1, self.channels, -1)


class LinfSquares(Squares):
    """Every pixel is x0 - epsilon or x0 + epsilon, clipped; a square gets one sign per channel."""

    def fit(self, side: int) -> int:
        return max(1, min(side, self.height - 1, self.width - 1))

    def start(self) -> Tensor:
        stripes = self.games.uniform((self.channels, 1, self.width))
        return self.vertex(self.games.x0, torch.where(stripes < 0.5, 1.0, -1.0))

    def choose(self, first: int, steps: int, i: Tensor) -> tuple[Tensor, ...]:
        if self.channels > DRAWN_BITS:
            return self.choose_for_many_channels(first, steps, i)
        u = self.games.uniform((4, steps), i).permute(1, 2, 0)
        vertices = 1 << self.channels
        drawn = (u[2] * vertices).long()
        other = drawn ^ ((u[3] * (vertices - 1)).long() + 1)
        return self.corner(first, u[0], u[1]), self.signs(drawn), self.signs(other)

    def signs(self, number: Tensor) -> Tensor:
        """One sign for each channel, [steps,n,C,1], from the bits of numbers [steps,n]."""
        bits = number.unsqueeze(-1) >> torch.arange(self.channels, device=number.device) & 1
        return (2.0 * bits - 1).unsqueeze(-1)

    def choose_for_many_channels(self, first: int, steps: int, i: Tensor) -> tuple[Tensor, ...]:
        """`choose` with a draw for each sign, since one draw has no more than `DRAWN_BITS` bits."""
        u = self.games.uniform((2 + 2 * self.channels, steps), i).permute(1, 2, 0)
        drawn = torch.where(u[2:] < 0.5, 1.0, -1.0).permute(1, 2, 0).unsqueeze(-1)
        sign, other = drawn[:, :, : self.channels], drawn[:, :, self.channels :]
        same = (other == sign).all(dim=2, keepdim=True)  # once in 2^C draws
        return self.corner(first, u[0], u[1]), sign, torch.where(same, -sign, other)

    def propose(self, t: int, x: Tensor, i: Tensor) -> Tensor:
        corner, sign, other = self.ahead.at(t, i)
        window = self.window(t, corner)
        x0 = self.games.x0.index_select(0, i).flatten(2).gather(2, window)
        new = self.vertex(x0, sign)
        # The authors redraw the signs until the window changes. Only the signs that it has already change
        # nothing, and `other` is uniform over all signs but these: the same distribution, in one draw.
        same = (new == x.flatten(2).gather(2, window)).flatten(1).all(dim=1)
        new = self.vertex(x0, torch.where(same.view(-1, 1, 1), other, sign))
        return x.flatten(2).scatter(2, window, new).view_as(x)

    def vertex(self, x0: Tensor, sign: Tensor) -> Tensor:
        """x0 + epsilon sign, clipped to the box."""
        return (x0 + self.epsilon * sign).clamp_(0, 1)


class L2Squares(Squares):
    """Move the l_2 mass of two windows, and what the box has clipped away, into a pattern in the first."""

    def fit(self, side: int) -> int:
        shorter = min(self.height, self.width)
        return min(max(side, 3) | 1, (shorter - 1) | 1)

    def start(self) -> Tensor:
        """Tiles of a fifth of the shorter side, as many as fit, centred: 5 x 5 where the image is square."""
        games, s = self.games, max(1, min(self.height, self.width) // 5)
        m, n = self.height // s, self.width // s
        u = games.uniform((1 + self.channels, m, n))
        pattern = oriented_patterns(s, u.device)[(u[:, :1] < 0.5).long()]  # [G,1,m,n,s,s]
        tiles = torch.where(u[:, 1:] < 0.5, 1.0, -1.0)[..., None, None] * pattern
        delta = torch.zeros_like(games.x0)
        top, left = (self.height - m * s) // 2, (self.width - n * s) // 2
        inside = delta[:, :, top : top + m * s, left : left + n * s]
        inside.copy_(tiles.transpose(3, 4).reshape(inside.shape))
        return self.at_border(delta, games.x0)

    def choose(self, first: int, steps: int, i: Tensor) -> tuple[Tensor, ...]:
        u = self.games.uniform((5 + self.channels, steps), i).permute(1, 2, 0)
        rho = torch.where(u[5:] < 0.5, 1.0, -1.0).permute(1, 2, 0).unsqueeze(-1)
        corners = self.corner(first, u[0], u[1]), self.corner(first, u[2], u[3])
        return *corners, (u[4] < 0.5).long(), rho

    def propose(self, t: int, x: Tensor, i: Tensor) -> Tensor:
        first, second, orientation, rho = self.ahead.at(t, i)
        w1, w2 = self.window(t, first), self.window(t, second)
        x0 = self.games.x0.index_select(0, i)
        delta = (x - x0).flatten(2)
        spare = (self.epsilon**2 - delta.square().sum(dim=(1, 2))).clamp_min(0).view(-1, 1, 1)
        in_w1 = delta.gather(2, w1)
        delta.scatter_(2, w1, 0.0)
        in_w2 = delta.gather(2, w2)  # without the pixels of w1: the mass of the union counts once
        delta.scatter_(2, w2, 0.0)
        mass = (in_w1.square() + in_w2.square()).sum(dim=2, keepdim=True) + spare / self.channels
        eta = oriented_patterns(self.side(t), x.device).flatten(1)[orientation].unsqueeze(1)
        new = rho * eta + in_w1 / (length(in_w1) + 1e-10)
        delta.scatter_(2, w1, new * (mass.sqrt() / length(new).clamp_min(1e-12)))
        return self.at_border(delta.view_as(x), x0, i)

    def at_border(self, delta: Tensor, x0: Tensor, i: Tensor | None = None) -> Tensor:
        """x0 + delta, delta scaled to l_2 length epsilon, clipped to the box."""
        scale = self.epsilon / length(delta.flatten(1)).clamp_min(1e-12)
        # Rounding in so long a sum may exceed the ball's tolerance; `project` measures as the Referee does.
        return self.games.project(x0 + delta * scale.view(-1, 1, 1, 1), i)


def length(v: Tensor) -> Tensor:
    """The l_2 length along the last axis, which is kept."""
    lengths: Tensor = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return lengths


def bump(a: int, b: int) -> Tensor:
    """The pattern [a,b] of l_2 length 1: sum_{k=d}^{K} (k + 1)^-2 at Chebyshev distance d from its centre."""
    reach = max(a // 2, b // 2)
    decay = torch.arange(1, reach + 2, dtype=torch.float64).pow(-2)
    height = decay.flip(0).cumsum(0).flip(0)
    rows, columns = (torch.arange(n) - n // 2 for n in (a, b))
    pattern = height[torch.maximum(rows.abs().unsqueeze(1), columns.abs())]
    return pattern / pattern.square().sum().sqrt()


@cache
def oriented_patterns(s: int, device: torch.device) -> Tensor:
    """The pattern eta of a square, a positive half above a negative one, and its transpose: [2,s,s]."""
    halves = [bump(n, s) * sign for n, sign in ((s // 2, 1), (s - s // 2, -1)) if n]
    eta = torch.cat(halves)
    eta /= eta.square().sum().sqrt()
    return torch.stack([eta, eta.T]).to(device, torch.float32)


@cache
def window_pixels(s: int, width: int, device: torch.device) -> Tensor:
    """Places [s*s] of the pixels of a window relative to its first, in images of this width, flattened."""
    steps = torch.arange(s, device=device)
    return (steps.unsqueeze(1) * width + steps).flatten()
