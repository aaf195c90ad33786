"""oars-square: Square Attack with as many and as large squares as a defender with a memory lets pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agents.attackers.parts.adaptation import Adaptation
from agents.attackers.parts.refusals import with_echoes
from agents.attackers.parts.twins import plain
from agents.attackers.score.random_search import search
from agents.attackers.score.square import DRAWN_BITS, LinfSquares, Square, shares
from agents.parameters import check_parameters, check_within
from arena.players import Games, Needs, Play


@dataclass(frozen=True)
class OarsSquare(Square):
    """OARS around Square Attack, l_inf (Feng et al., CCS 2023; the settings of the authors' code).

    Adapt: around the stripes that it starts from, it finds the smallest number of squares a step, and then
    the smallest side of them, of which at most a share is refused; p's halvings end at that side. Resample: a
    candidate that is refused is no incumbent, and the next one is drawn. One square may lie upon another, and
    signs are drawn without looking at what was there: a candidate of many squares differs anyway.

    A service that recognises a query and does not say so is seen through by echoes of earlier scores
    (`parts.refusals`).

    Attributes:
        least_squares, most_squares: the bracket of their number, and `squares_rate` the share of the
            `squares_probes` probes of a number that may be refused.
        most_side: the bracket of sides is from 1 to it, at most to the image's shorter side less 1, which it
            is if None; `side_rate`, `side_probes`: as for the number.
        adapt_steps: how often a bracket is halved.
    """

    least_squares: int = 10
    most_squares: int = 100
    squares_rate: float = 0.0
    squares_probes: int = 5
    most_side: int | None = None
    side_rate: float = 0.5
    side_probes: int = 10
    adapt_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("least_squares", "most_squares", "squares_probes", "most_side", "side_probes")
        check_parameters(self, counts=(*counts, "adapt_steps"))
        check_within(self, 0, 1, "squares_rate", "side_rate")
        if self.least_squares > self.most_squares:
            raise ValueError(
                f"least_squares must be at most most_squares; found {self.least_squares} and "
                f"{self.most_squares}"
            )

    @property
    def needs(self) -> Needs:
        return replace(super().needs, norms=("linf",))

    @property
    def twin(self) -> Square:
        return plain(self, Square)

    def play(self, games: Games) -> Play:
        yield from with_echoes(games, self.attack(games))

    def attack(self, games: Games) -> Play:
        squares = ManySquares(games, shares(self.p, self.length(games)), self.most_squares)
        x = squares.start()
        yield from self.ask_clean(games)
        yield from search(
            games,
            x,
            squares.propose,
            self.acceptance(games),
            loss=self.loss_in(games),
            refresh_every=self.refresh_every,
            prepare=lambda: self.adapt(games, squares, x),
        )

    def adapt(self, games: Games, squares: ManySquares, x: Tensor) -> Play:
        """Find how many squares, and of what side at least, are painted on `x` [G,C,H,W]."""
        i = games.open
        side, longest = squares.side(0), squares.fit(self.most_side or max(x.shape[2:]))

        def some(size: Tensor, rows: Tensor) -> Tensor:
            return squares.fresh(x, i[rows], self.squares_probes, torch.full_like(i[rows], side), size.long())

        def sided(size: Tensor, rows: Tensor) -> Tensor:
            return squares.fresh(x, i[rows], self.side_probes, size.long(), squares.count[i[rows]])

        by = Adaptation(self.squares_rate, self.adapt_steps, self.squares_probes, whole=True)
        count = yield from by.smallest(games, i, self.least_squares, self.most_squares, some)
        squares.count[i] = count.long()
        by = Adaptation(self.side_rate, self.adapt_steps, self.side_probes, whole=True)
        squares.least[i] = (yield from by.smallest(games, i, 1, longest, sided)).long()
        yield from games.note("adapted squares", squares.count[i], i)
        yield from games.note("adapted side", squares.least[i], i)


class ManySquares(LinfSquares):
    """Proposals of several squares at once.

    Attributes:
        most: the largest number of squares.
        count: [G] the number of squares of each game.
        least: [G] the least side of its squares.
    """

    def __init__(self, games: Games, share: Callable[[int], float], most: int) -> None:
        super().__init__(games, share)
        self.most = most
        self.count = torch.full_like(games.label, most)
        self.least = torch.ones_like(games.label)
        self.drawn = 2 + -(-self.channels // DRAWN_BITS)
        """Draws a square: its row, its column, and the bits of its signs."""

    def choose(self, first: int, steps: int, i: Tensor) -> tuple[Tensor, ...]:
        return (self.games.uniform((steps, self.drawn, self.most), i).transpose(0, 1),)

    def propose(self, t: int, x: Tensor, i: Tensor) -> Tensor:
        (u,) = self.ahead.at(t, i)
        return self.paint(x, i, u, self.least[i].clamp_min(self.side(t)), self.count[i])

    def fresh(self, x: Tensor, i: Tensor, times: int, side: Tensor, count: Tensor) -> Tensor:
        """[n,times,C,H,W]: squares painted `times` times on the images `x` [G,C,H,W] of games `i` [n]."""
        u = self.games.uniform((times, self.drawn, self.most), i).flatten(0, 1)
        each = (v.repeat_interleave(times, dim=0) for v in (x[i], i, side, count))
        on, of, side, count = each
        return self.paint(on, of, u, side, count).view(len(i), times, *x.shape[1:])

    def paint(self, x: Tensor, i: Tensor, u: Tensor, side: Tensor, count: Tensor) -> Tensor:
        """`count` [n] squares of `side` [n] on images `x` [n,C,H,W], by uniform draws `u` [n,drawn,most]; of
        those that cover a pixel the last one counts."""
        height, width, side = self.height, self.width, side.unsqueeze(1)
        row = (u[:, 0] * (height - side).clamp_min(1)).long()
        column = (u[:, 1] * (width - side).clamp_min(1)).long()
        last = torch.full((len(x), height, width), -1, device=x.device)
        for k in range(int(count.max()) if len(count) else 0):
            down = _covered(row[:, k : k + 1], side, height) & (count > k).unsqueeze(1)
            last.masked_fill_(down.unsqueeze(2) & _covered(column[:, k : k + 1], side, width).unsqueeze(1), k)
        bits = (u[:, 2:] * (1 << DRAWN_BITS)).long()
        place = last.clamp_min(0).view(len(x), 1, -1).expand(-1, bits.shape[1], -1)
        channel = torch.arange(self.channels, device=x.device)
        chosen = bits.gather(2, place)[:, channel // DRAWN_BITS] >> (channel % DRAWN_BITS).unsqueeze(1)
        sign = (2.0 * (chosen & 1) - 1).view_as(x)
        return torch.where((last >= 0).unsqueeze(1), self.vertex(self.games.x0[i], sign), x)


def _covered(start: Tensor, side: Tensor, size: int) -> Tensor:
    """[n,size] bool: the places from `start` on, `side` of them, both [n,1]."""
    place = torch.arange(size, device=start.device)
    return (place >= start) & (place < start + side)
