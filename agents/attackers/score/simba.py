"""SimBA: steps along pixels or cosines, each tried once, kept where the probability falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.parts.dct import cosines
from agents.attackers.score.random_search import check_period, search
from arena.players import Attacker, Games, Loss, Needs, Play

PASSED_OVER = 8
"""So many steps in a row that the box or the ball undoes are passed over before one is asked."""


@dataclass(frozen=True)
class SimBA(Attacker):
    """Simple Black-box Attack (Guo, Gardner, You, Wilson and Weinberger, ICML 2019, Algorithm 1).

    One basis vector q after the other, without replacement: delta - step q is asked, and delta + step q if
    that is not better; the first that is replaces delta. A step costs one query or two, and the first image
    one. As in the authors' code delta itself is never cut back, only the image that is made from it: there
    into the box and in l_inf into the ball, here into the ball in l_2 as well, by scaling it. The authors
    leave l_2 unbounded and count what ended inside; outside nothing can be won here, and beyond the ball each
    step still turns the image's perturbation.

    Not as in the code: each game has an order of its own (there the batch shares one); the sign + is asked
    only where - has failed (the batch code always asks both, and counts one); a step that changes nothing is
    not asked (a black pixel gets no darker); after the last basis vector a new order begins.

    Attributes:
        step: the length of a step along a basis vector of length 1: epsilon in the paper. It is no radius.
        basis: `dct`: the cosines of each channel (SimBA-DCT); `pixel`: single values (SimBA).
        order: `random`: all vectors in a random order; `strided`: the lowest `frequencies` first, then in
            rings of width `stride` outwards, in a random order within each.
        frequencies: of `dct`, the lowest a side; None: all of them. `random` takes no others.
        stride: the width of the rings.
        loss: what is minimised; the paper's is p_y, or -p_t when targeted.
        refresh_every: ask the incumbent again every so many queries; 0: never.
    """

    step: float = 0.2
    basis: Literal["pixel", "dct"] = "dct"
    order: Literal["random", "strided"] = "random"
    frequencies: int | None = None
    stride: int = 7
    loss: Loss = "probability"
    refresh_every: int = 0

    needs = Needs(feedback="scores", objectives=("first", "submit"))

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise ValueError(f"step must be positive; found {self.step}")
        if self.basis not in ("pixel", "dct"):
            raise ValueError(f"basis must be pixel or dct; found {self.basis!r}")
        if self.order not in ("random", "strided"):
            raise ValueError(f"order must be random or strided; found {self.order!r}")
        if self.frequencies is not None and self.frequencies < 1:
            raise ValueError(f"frequencies must be at least 1; found {self.frequencies}")
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1; found {self.stride}")
        if self.basis == "pixel" and (self.order == "strided" or self.frequencies is not None):
            raise ValueError("basis must be dct for an order by frequencies: pixels have none")
        if self.order == "strided" and self.frequencies is None:
            raise ValueError("frequencies must be given for the order strided: beyond them its rings begin")
        check_period("refresh_every", self.refresh_every)

    def play(self, games: Games) -> Play:
        steps = Steps(games, self)
        yield from search(
            games,
            games.x0.clone(),
            steps.propose,
            steps.accept,
            loss=self.loss,
            refresh_every=self.refresh_every,
        )


class Steps:
    """Where each of G games stands: D basis vectors, each tried with the sign - and then +.

    Attributes:
        delta: [G,C,H,W], the perturbation before it is brought into ball and box.
        order: [G,D], the basis vectors in the order in which they are tried; place: [G], the next one's.
        plus: [G] bool, its sign - has failed.
        tried: [n,C,H,W], the perturbations that were asked last.
    """

    def __init__(self, games: Games, rules: SimBA) -> None:
        self.games, self.rules = games, rules
        ring = rings(games.x0.shape[1:], rules).to(games.x0.device)
        self.ring = ring[ring >= 0]
        self.vectors = (ring >= 0).nonzero().squeeze(1)  # places of the D vectors in a flattened image
        self.delta = torch.zeros_like(games.x0)
        self.order = self.vectors.repeat(len(games), 1)
        self.place = torch.zeros_like(games.label)
        self.plus = torch.zeros_like(games.label, dtype=torch.bool)
        self.tried = self.delta
        self.shuffle(games.open)

    def shuffle(self, i: Tensor) -> None:
        """A new order for games `i` [n]."""
        order = self.games.uniform((len(self.vectors),), i).argsort(dim=1, stable=True)
        within = self.ring[order].argsort(dim=1, stable=True)
        self.order[i] = self.vectors[order.gather(1, within)]
        self.place[i] = 0

    def propose(self, t: int, x: Tensor, i: Tensor) -> Tensor:
        """The next images [n,C,H,W] to ask in games `i` [n], whose incumbents are `x` [n,C,H,W]."""
        self.tried = self.stepped(i)
        candidate = self.image(self.tried, i)
        for _ in range(PASSED_OVER):
            rows = (candidate == x).flatten(1).all(dim=1).nonzero().squeeze(1)
            if not len(rows):
                break
            self.go_on(i[rows], torch.zeros_like(rows, dtype=torch.bool))
            self.tried[rows] = self.stepped(i[rows])
            candidate[rows] = self.image(self.tried[rows], i[rows])
        return candidate

    def accept(self, new: Tensor, best: Tensor, i: Tensor) -> Tensor:
        """Keep what has lowered the loss, and turn to the other sign or the next vector."""
        better = new < best
        kept = i[better]
        self.delta[kept] = self.tried[better]
        self.go_on(i, better)
        return better

    def stepped(self, i: Tensor) -> Tensor:
        """delta -+ step q [n,C,H,W] of games `i` [n]."""
        delta, vector = self.delta[i], self.order[i, self.place[i]]
        size = torch.where(self.plus[i], self.rules.step, -self.rules.step).to(delta.dtype)
        if self.rules.basis == "pixel":
            flat = delta.flatten(1)
            return flat.scatter_add_(1, vector.unsqueeze(1), size.unsqueeze(1)).view_as(delta)
        height, width = delta.shape[2:]
        down, across = (cosines(n, n, delta.device) for n in (height, width))
        row, column = vector // width % height, vector % width
        rows, channel = torch.arange(len(i), device=i.device), vector // (height * width)
        wave = down[row].unsqueeze(2) * across[column].unsqueeze(1)
        delta[rows, channel] += size.view(-1, 1, 1) * wave
        return delta

    def image(self, delta: Tensor, i: Tensor) -> Tensor:
        return self.games.project(self.games.x0[i] + delta, i)

    def go_on(self, i: Tensor, better: Tensor) -> None:
        """After a sign of games `i` [n] was tried, and was `better` [n] or not: + after -, or the next."""
        done = better | self.plus[i]
        self.plus[i] = ~done
        self.place[i] += done.to(self.place.dtype)
        ended = i[self.place[i] == self.order.shape[1]]
        if len(ended):
            self.shuffle(ended)


def rings(shape: tuple[int, ...], rules: SimBA) -> Tensor:
    """When each basis vector of images [C,H,W] comes, [C*H*W] int64: 0 first, then 1, ...; -1: never."""
    channels, height, width = shape
    ring = torch.zeros(channels, height, width, dtype=torch.int64)
    if rules.frequencies is not None:
        rows, columns = torch.arange(height).unsqueeze(1), torch.arange(width)
        beyond = torch.maximum(rows, columns) - rules.frequencies  # 0: the first that is not among the lowest
        outer = 1 + beyond // rules.stride if rules.order == "strided" else torch.full_like(beyond, -1)
        ring += torch.where(beyond < 0, 0, outer)
    return ring.flatten()
