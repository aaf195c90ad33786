"""Distances, projections and quantisation of images: one value per row."""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import cache

import numpy as np
import torch
from torch import Tensor

from arena.rules.threat import TOLERANCE, Norm, Quantisation

FLOOR_GUARD = 1e-3
"""Added before the floor: float32 puts 15 of 256 values of x - 8/255 just below their level."""
L2_GUARD = 1e-6
"""Share of the radius by which an l2 projection stays inside, so that rounding cannot put it outside."""

_DIGEST = 2**48 - 1


def distances(x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """The l2 and linf distances between images `x` and `x0`, both [n,C,H,W] -> [n], [n]."""
    delta = x - x0
    return _l2(delta), _linf(delta)


def distance(x: Tensor, x0: Tensor, norm: Norm) -> Tensor:
    """The distance in `norm` between images `x` and `x0`, both [n,C,H,W] -> [n]."""
    return _l2(x - x0) if norm == "l2" else _linf(x - x0)


def reach(norm: Norm, epsilon: float, how: Quantisation) -> float:
    """The largest radius that images can reach: in linf, on 8-bit levels, that of the most levels that the
    Referee calls inside, which may exceed `epsilon` by its tolerance."""
    if norm == "l2" or how == "none" or math.isinf(epsilon):
        return epsilon
    return (bisect_right(_spans(), epsilon + TOLERANCE) - 1) / 255


@cache
def _spans() -> list[float]:
    """The largest distance in float32 between any two 8-bit levels that are 0, 1, ..., 255 levels apart."""
    level = torch.arange(256, dtype=torch.float32, device="cpu").div_(255)
    return [float((level[k:] - level[: 256 - k]).amax()) for k in range(256)]


def project(x: Tensor, x0: Tensor, norm: Norm, epsilon: float, how: Quantisation = "none") -> Tensor:
    """`x` brought into the ball of radius `epsilon` around `x0` and into [0,1], [n,C,H,W].

    In l2 a perturbation that is too long is scaled to the ball, then clipped to the box: the clip only
    shortens it, since x0 lies in the box. An image that is already inside both stays unchanged.

    If the service quantises (`how`; `x0` is on its levels), the result is inside after quantisation: in linf
    the radius is a whole number of levels; in l2 an image that quantisation would move outside is moved
    towards x0, to the next levels.
    """
    if math.isinf(epsilon):
        return x.clamp(0, 1)
    epsilon = reach(norm, epsilon, how)
    if norm == "linf":
        return torch.minimum(torch.maximum(x, x0 - epsilon), x0 + epsilon).clamp_(0, 1)
    delta = x - x0
    length = _l2(delta).view(-1, *[1] * (x.dim() - 1))
    scale = epsilon * (1 - L2_GUARD) / length.clamp_min(1e-12)
    inside = torch.where(length > epsilon, x0 + delta * scale, x).clamp_(0, 1)
    if how == "none":
        return inside
    levels = ((inside - x0) * 255).trunc_().div_(255)
    outside = _l2(quantise(inside, how) - x0).double() > epsilon + TOLERANCE
    return torch.where(outside.view_as(length), x0 + levels, inside)


def quantise(x: Tensor, how: Quantisation) -> Tensor:
    """`x` in [0,1] on the 256 levels of 8-bit images: `round(255 x)/255` or `floor(255 x + 1e-3)/255`."""
    if how == "none":
        return x
    levels = (x * 255).round_() if how == "round" else (x * 255).add_(FLOOR_GUARD).floor_()
    return levels.clamp_(0, 255).div_(255)


def digests(x: Tensor) -> Tensor:
    """[n] int64 below 2^48: numbers of images [n,C,H,W], equal for images that are equal bit for bit; two
    others share theirs with a probability of about 2^-32 or less.

    Sums of the values' bits times fixed odd numbers: exact, so that no image's number depends on the others'.
    """
    if x.dtype != torch.float32:
        x = x.float()
    bits = x.reshape(len(x), math.prod(x.shape[1:])).view(torch.int32)
    odd = _odd_numbers(bits.shape[1])
    if x.is_cpu:
        sums = (bits.numpy() * odd.numpy()).sum(axis=1, dtype=np.int64)
        return torch.from_numpy(sums & _DIGEST)
    return (bits * odd.to(x.device)).sum(dim=1, dtype=torch.int64) & _DIGEST


@cache
def _odd_numbers(count: int) -> Tensor:
    """int32 [count], the same in all processes."""
    drawn = np.random.default_rng(0).integers(-(2**30), 2**30, count, dtype=np.int32)
    return torch.from_numpy(drawn * 2 + 1)


def _l2(delta: Tensor) -> Tensor:
    # In two stages: one float32 sum over an image of 224 x 224 is wrong by 1e-6 of the norm, two by 1e-7.
    length: Tensor = torch.linalg.vector_norm(torch.linalg.vector_norm(delta, dim=-1).flatten(1), dim=1)
    return length


def _linf(delta: Tensor) -> Tensor:
    """Overwrites `delta`."""
    return delta.abs_().flatten(1).amax(dim=1)
