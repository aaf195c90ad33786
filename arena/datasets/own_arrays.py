"""Images and labels as callers give them, checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from arena.datasets import Split


def read_images(given: Any, name: str = "images") -> Tensor:
    """[n,C,H,W] float32 in [0,1] from a tensor or array; ValueError names what is wrong."""
    try:
        x = _own(given)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be a tensor or array of numbers; found {_kind(given)}") from None
    if x.dtype == torch.uint8:
        raise ValueError(f"{name} must be float in [0,1]; found uint8 (divide by 255)")
    if x.dim() != 4 or not x.numel() or not x.is_floating_point():
        raise ValueError(f"{name} must be float [n,C,H,W] with n > 0; found {x.dtype} {list(x.shape)}")
    low, high = (float(v) for v in torch.aminmax(x))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} must be finite and lie in [0,1]; found values from {low:g} to {high:g}")
    return x.to(torch.float32)


def read_labels(given: Any, n: int, name: str = "labels") -> Tensor:
    """[n] int64 from 0 from a tensor, array or list; ValueError names what is wrong."""
    if given is None:
        raise ValueError(f"{name} must be given with images; found None for {n} images")
    allowed = f"{name} must be whole numbers from 0, one for each of the {n} images"
    try:
        y = _own(given)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{allowed}; found {_kind(given)}") from None
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.shape != (n,):
        raise ValueError(f"{allowed}; found {y.dtype} {list(y.shape)}")
    if int(y.min()) < 0:
        raise ValueError(f"{allowed}; found {int(y.min())}")
    return y.to(torch.int64)


def read_split(images: Any, labels: Any, name: str = "") -> Split:
    """A caller's own images and labels, moved to the host and numbered from 0; errors call them by names that
    begin with `name`."""
    x = read_images(images, f"{name} images".strip()).cpu()
    return Split(x, torch.arange(len(x)), read_labels(labels, len(x), f"{name} labels".strip()).cpu())


def _own(given: Any) -> Tensor:
    """A tensor with no history: no gradients reach the caller's, and no inference mode clings to it."""
    x = torch.as_tensor(given).detach()
    return x.clone() if x.is_inference() else x


def _kind(given: Any) -> str:
    items = f" of {type(given[0]).__name__}" if isinstance(given, list | tuple) and given else ""
    return f"{type(given).__name__}{items}"
