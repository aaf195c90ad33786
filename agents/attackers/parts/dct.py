"""The low frequencies of an image: its 2-D DCT-II, orthonormal at image size, a plane of each channel.

An attack that perturbs along low frequencies needs fewer queries, because boundaries vary slowly there.
Coefficients [...,a,b] are those of the a lowest vertical and the b lowest horizontal frequencies; the caller
decides which channels share them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from arena.players import Games

LOWEST = 10
"""Frequencies a side along which an image of at most 32 pixels is perturbed."""
SIDE, FREQUENCIES = 224, 75
"""GeoDA takes 75 frequencies a side at 224 pixels; smaller images the same share."""


@cache
def cosines(count: int, size: int, device: torch.device) -> Tensor:
    """The `count` lowest DCT-II functions of a line of `size` pixels, [count,size], orthonormal rows.

    Raises:
        ValueError: if `count` is not from 1 to `size`.
    """
    if not 1 <= count <= size:
        raise ValueError(f"{size} pixels have from 1 to {size} frequencies; found {count}")
    frequency = torch.arange(count, dtype=torch.float64).unsqueeze(1)
    waves = torch.cos(math.pi / size * frequency * (torch.arange(size) + 0.5)) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves.to(device, torch.float32)


def from_frequencies(z: Tensor, height: int, width: int) -> Tensor:
    """The images [...,H,W] of coefficients `z` [...,a,b], a <= H and b <= W; lengths and angles stay."""
    across = _expand(z, cosines(z.shape[-1], width, z.device))
    return _expand_down(across, cosines(z.shape[-2], height, z.device))


def to_frequencies(x: Tensor, rows: int, columns: int) -> Tensor:
    """The coefficients [...,rows,columns] of the lowest frequencies of images `x` [...,H,W]."""
    height, width = x.shape[-2:]
    across = _expand(x, cosines(columns, width, x.device).T)
    return _expand_down(across, cosines(rows, height, x.device).T)


def low_frequencies(height: int, width: int) -> int:
    """How many frequencies a side to perturb along: 75 at 224 pixels, 10 at 32 and below."""
    side = min(height, width)
    return min(side, max(LOWEST, FREQUENCIES * side // SIDE))


def low_noise(games: Games, i: Tensor, shape: Sequence[int], sub_dim: int) -> Tensor:
    """Gaussian noise [n,*shape,C,H,W] in the `sub_dim`^2 lowest frequencies of each channel, for games `i`.

    The coefficients are independent standard normals: its mean length is about sub_dim sqrt(C).
    """
    channels, height, width = games.x0.shape[1:]
    z = games.normal((*shape, channels, sub_dim, sub_dim), i)
    return from_frequencies(z, height, width)


# Terms are summed one after the other: a matrix product may sum in an order that depends on the batch.


def _expand(z: Tensor, waves: Tensor) -> Tensor:
    """sum_k z[...,k] waves[k], `z` [...,a,m] and `waves` [m,W] -> [...,a,W]."""
    out = z.new_zeros(*z.shape[:-1], waves.shape[1])
    for k, wave in enumerate(waves):
        out.addcmul_(z[..., k, None], wave)
    return out


def _expand_down(z: Tensor, waves: Tensor) -> Tensor:
    """sum_k waves[k] z[...,k,:], `z` [...,m,W] and `waves` [m,H] -> [...,H,W]."""
    out = z.new_zeros(*z.shape[:-2], waves.shape[1], z.shape[-1])
    for k, wave in enumerate(waves):
        out.addcmul_(z[..., k, None, :], wave[:, None])
    return out
