"""SignHunter: the signs of the gradient by divide and conquer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.score.random_search import check_period, search
from arena.players import Attacker, Games, Loss, Needs, Play


@dataclass(frozen=True)
class SignHunter(Attacker):
    """SignHunter (Al-Dujaili and O'Reilly, "Sign bits are all you need", ICLR 2020, Algorithm 2).

    The image is x0 + epsilon s (l_2: epsilon s / sqrt(d)) with s in {-1, +1}^d, at first all +1. Level h
    flips the chunks of ceil(d / 2^h) signs one after the other, along rows of pixels with all their channels,
    as the authors flatten images; a flip that does not raise the loss stays, a tie too. After the last level,
    that of single signs, it begins again at the image that it has come to, with all signs +1 there.

    It costs one query for the first s and one for each flip. The authors also ask for the clean image, four
    times a pass or at every flip, which cancels in the comparison; and they leave images outside the box.

    Attributes:
        loss: what is minimised; the authors' is the cross-entropy.
        refresh_every: ask the incumbent again every so many flips; 0: never.
    """

    loss: Loss = "cross-entropy"
    refresh_every: int = 0

    needs = Needs(feedback="scores", objectives=("first", "submit"))

    def __post_init__(self) -> None:
        check_period("refresh_every", self.refresh_every)

    def play(self, games: Games) -> Play:
        signs = Signs(games)
        yield from search(
            games,
            signs.start(),
            signs.propose,
            signs.accept,
            loss=self.loss,
            refresh_every=self.refresh_every,
        )


class Signs:
    """The signs of G games; d = H W C values, in the order of rows, columns, channels.

    Attributes:
        center: [G,C,H,W], the images from which signs step: the clean ones in the first pass.
        sign: [G,d], s; tried: [n,d], that of the images asked last.
        chunks: of each flip of a pass, the slice of signs. Every pass but the first begins with the step that
            asks for s = +1 (no flip).
    """

    def __init__(self, games: Games) -> None:
        self.games, self.center = games, games.x0
        channels, self.height, self.width = games.x0.shape[1:]
        self.dimension = channels * self.height * self.width
        self.chunks = chunks(self.dimension)
        self.length = games.epsilon / (math.sqrt(self.dimension) if games.threat.norm == "l2" else 1.0)
        self.sign = games.x0.new_ones(len(games), self.dimension)
        self.tried, self.first = self.sign, False

    def start(self) -> Tensor:
        """The images [G,C,H,W] of s = +1."""
        return self.images(self.sign, torch.arange(len(self.games), device=self.sign.device))

    def propose(self, t: int, x: Tensor, i: Tensor) -> Tensor:
        """The image after the next flip, or of s = +1 around the incumbents `x` where a pass begins."""
        place = (t + 1) % (1 + len(self.chunks))
        self.first = place == 0
        if self.first:
            self.center = self.center.clone()
            self.center[i] = x
            self.tried = torch.ones_like(self.sign[i])
        else:
            self.tried = self.sign[i]
            self.tried[:, self.chunks[place - 1]] *= -1
        return self.images(self.tried, i)

    def accept(self, new: Tensor, best: Tensor, i: Tensor) -> Tensor:
        """What is no worse stays; so does, whatever its loss, that with which a pass begins."""
        accepted = new.isfinite() & ((new <= best) | self.first)
        self.sign[i[accepted]] = self.tried[accepted]
        return accepted

    def images(self, sign: Tensor, i: Tensor) -> Tensor:
        """The images [n,C,H,W] of signs [n,d] in games `i` [n]."""
        s = sign.view(len(sign), self.height, self.width, -1).permute(0, 3, 1, 2)
        return self.games.project(self.center[i] + self.length * s, i)


def chunks(dimension: int) -> list[slice]:
    """What a pass flips, in order: at level h = 0, ..., ceil(log2 d) chunks of ceil(d / 2^h) signs."""
    found = []
    for level in range((dimension - 1).bit_length() + 1):
        size = -(-dimension // 2**level)
        found += [slice(begin, begin + size) for begin in range(0, dimension, size)]
    return found
