"""Augmentation of a batch, on its device; each image has its own draws, made on the host."""

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
    """[n,C,H,W] float -> the same, by its name in a recipe."""
    return _BY_NAME[name]


def crop(x: Tensor, generator: Generator, pad: int, mirror: bool = False) -> Tensor:
    """A random crop of each image, padded with `pad` zeros on all sides, mirrored left to right half of the
    time (Lee et al. 2015; He et al. 2016, sec. 4.2)."""
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


def resized_crop(
    x: Tensor,
    generator: Generator,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """A random part of each image, random in area and aspect ratio, resized to the image's size bilinearly,
    and mirrored left to right half of the time (Szegedy et al. 2015, sec. 6). A part that is longer than a
    side is cut to it."""
    share, form, across, down, side = torch.rand(5, len(x), generator=generator)
    share = area[0] + (area[1] - area[0]) * share
    form = (math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * form).exp()
    width, height = (share * form).sqrt().clamp(max=1), (share / form).sqrt().clamp(max=1)
    right, low = (1 - width) * (2 * across - 1), (1 - height) * (2 * down - 1)
    none = torch.zeros(len(x))
    rows = torch.stack([torch.where(side < 0.5, -width, width), none, right, none, height, low], dim=1)
    return _sampled(x, rows)


def affine(x: Tensor, generator: Generator, ranges: tuple[float, ...] = AFFINE) -> Tensor:
    """Each image rotated, sheared, scaled and shifted by draws up to `ranges`, with zeros in the gaps."""
    draws = torch.rand(5, len(x), generator=generator)
    angle, shear, scale, *shift = (2 * draws - 1) * torch.tensor(ranges)[:, None]
    # affine_grid measures in half image sides
    right, down = (2 * pixels / side for pixels, side in zip(shift, (x.shape[3], x.shape[2]), strict=True))
    cos, sin = (1 + scale) * angle.cos(), (1 + scale) * angle.sin()
    return _sampled(x, torch.stack([cos, shear - sin, right, sin, cos, down], dim=1))


def _sampled(x: Tensor, rows: Tensor) -> Tensor:
    """x [n,C,H,W] sampled bilinearly where the affine maps `rows` [n,6] send its pixels."""
    maps = rows.view(-1, 2, 3).to(x.device, non_blocking=True)
    return F.grid_sample(x, F.affine_grid(maps, list(x.shape), align_corners=False), align_corners=False)


_BY_NAME: dict[str, Augment] = {
    "none": lambda x, generator: x,
    "shift": lambda x, generator: crop(x, generator, pad=2),
    "crop": lambda x, generator: crop(x, generator, pad=4),
    "crop-flip": lambda x, generator: crop(x, generator, pad=4, mirror=True),
    "resized-crop-flip": resized_crop,
    "affine": affine,
}
