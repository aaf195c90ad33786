"""Clients that ask which parts of an image an answer rests on: they hide some, and ask again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from arena import draws
from arena.evaluation.benign.client import Client, Sending

GRID = 7
"""Cells across an image, at most: LIME's superpixels are about fifty, too."""
GREY = 0.5


@dataclass(frozen=True)
class Occlusion(Client):
    """Slides a grey square of a quarter of the width over the image (Zeiler and Fergus 2014, sec. 4.2), to 7
    times 7 places, after the image itself."""

    name: ClassVar[str] = "occlusion"
    does: ClassVar[str] = "an image with a grey square at 49 places"
    queries: ClassVar[int] = 1 + GRID**2

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        high, wide = x.shape[2:]
        square = max(1, high // 4), max(1, wide // 4)
        yield x
        while True:
            for place in range(GRID**2):
                top = round((high - square[0]) * (place // GRID) / (GRID - 1))
                left = round((wide - square[1]) * (place % GRID) / (GRID - 1))
                hidden = x.clone()
                hidden[:, :, top : top + square[0], left : left + square[1]] = GREY
                yield hidden


@dataclass(frozen=True)
class Lime(Client):
    """LIME for images (Ribeiro et al. 2016, sec. 3.5), with cells of a grid in place of superpixels: each
    shows the image or, with probability 1/2, its mean colour there. The first query is the image itself."""

    name: ClassVar[str] = "lime"
    does: ClassVar[str] = "an image with half of its cells in their mean colour, 99 times"
    queries: ClassVar[int] = 100

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        cells = cells_across(x)
        mean = spread(F.adaptive_avg_pool2d(x, cells), x)
        yield x
        turn = 0
        while True:
            turn += 1
            shown = draws.uniform(seed, key, turn, (1, *cells)) < 0.5
            yield torch.where(spread(shown, x), x, mean)


@dataclass(frozen=True)
class Shap(Client):
    """Kernel SHAP (Lundberg and Lee 2017, theorem 2): of M cells, s are shown, s drawn in proportion to
    (M - 1) / (s (M - s)), the others have the image's mean colour; each coalition is followed by its
    complement. First come all cells and none."""

    name: ClassVar[str] = "shap"
    does: ClassVar[str] = "an image with coalitions of its cells in its mean colour, 98 times"
    queries: ClassVar[int] = 100

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        cells = cells_across(x)
        mean = x.mean(dim=(2, 3), keepdim=True).expand_as(x)
        yield x
        yield mean
        turn = 0
        while True:
            turn += 1
            shown = spread(coalition(cells, key, turn, seed), x)
            yield torch.where(shown, x, mean)
            yield torch.where(shown, mean, x)


def coalition(cells: tuple[int, int], key: Tensor, turn: int, seed: int) -> Tensor:
    """[s,1,*cells] bool: which cells are shown."""
    m = cells[0] * cells[1]
    size = torch.arange(1, m, device=key.device, dtype=torch.float64)
    weight = (m - 1) / (size * (m - size))
    chosen = draws.uniform(seed, key, turn, (1,)).double()
    count = 1 + torch.searchsorted(weight.cumsum(0) / weight.sum(), chosen, right=True).clamp(max=m - 2)
    rank = draws.uniform(seed, key, turn, (m,), stream=1).argsort(dim=1).argsort(dim=1)
    return (rank < count).view(-1, 1, *cells)


def cells_across(x: Tensor) -> tuple[int, int]:
    """The grid of images [s,C,H,W]: at most `GRID` cells down and across, none of a single pixel."""
    return max(2, min(GRID, x.shape[2] // 2)), max(2, min(GRID, x.shape[3] // 2))


def spread(values: Tensor, x: Tensor) -> Tensor:
    """The values of cells [s,c,h,w] at each pixel of images `x` [s,C,H,W]: [s,c,H,W]."""
    down, across = (
        torch.arange(pixels, device=x.device) * cells // pixels
        for pixels, cells in zip(x.shape[2:], values.shape[2:], strict=True)
    )
    return values[:, :, down][:, :, :, across]
