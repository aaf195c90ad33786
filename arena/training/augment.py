"""Augmentation of a batch, on its device; every image by draws of its own, made on the host."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

AFFINE = (math.radians(15), 0.2, 0.1, 0.7, 0.7)
"""Rotation, shear, scale, and shifts in pixels: plus or minus each, at most."""

Augment = Callable[[Tensor, Generator], Tensor]


def augmentation(name: str) -> Augment:
    """[n,C,H,W] float -> the same, by the name that a recipe has for it."""
    return _BY_NAME[name]


def crop(x: Tensor, generator: Generator, pad: int, mirror: bool = False) -> Tensor:
    """Each image cut at a place of its own out of itself with `pad` zeros around, and mirrored left to right
    half of the time (Lee et al. 2015; He et al. 2016, sec. 4.2)."""
    n, _, height, width = x.shape
    top, left = torch.randint(2 * pad + 1, (2, n, 1), generator=generator)
    columns = torch.arange(width).expand(n, width)
    if mirror:
        flipped = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    rows = (torch.arange(height) + top)[:, None, :, None]
    columns = (columns + left)[:, None, None, :]
    image, channel = torch.arange(n).view(-1, 1, 1, 1), torch.arange(x.shape[1]).view(1, -1, 1, 1)
    places = (part.to(x.device, non_blocking=True) for part in (image, channel, rows, columns))
    return F.pad(x, (pad, pad, pad, pad))[tuple(places)]


def affine(x: Tensor, generator: Generator, ranges: tuple[float, ...] = AFFINE) -> Tensor:
    """Each image rotated, sheared, scaled and shifted by draws up to `ranges`; zeros come in."""
    draws = torch.rand(5, len(x), generator=generator)
    angle, shear, scale, *shift = (2 * draws - 1) * torch.tensor(ranges)[:, None]
    # affine_grid measures in half image sides
    right, down = (2 * pixels / side for pixels, side in zip(shift, (x.shape[3], x.shape[2]), strict=True))
    cos, sin = (1 + scale) * angle.cos(), (1 + scale) * angle.sin()
    rows = torch.stack([cos, shear - sin, right, sin, cos, down], dim=1).to(x.device, non_blocking=True)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


_BY_NAME: dict[str, Augment] = {
    "none": lambda x, generator: x,
    "shift": lambda x, generator: crop(x, generator, pad=2),
    "crop": lambda x, generator: crop(x, generator, pad=4),
    "crop-flip": lambda x, generator: crop(x, generator, pad=4, mirror=True),
    "affine": affine,
}
