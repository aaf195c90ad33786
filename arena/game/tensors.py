"""Tensors that come from an agent: only plain dense ones are taken in, and what is taken in is a copy
(docs/design.md, D2).

A class may override any operation, and so may an attribute of a plain tensor hide a method of the same name:
nothing is called on what an agent hands over but functions of torch's own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

_wrapped: Any = torch._C._functorch.is_functorch_wrapped_tensor
_keys: Any = torch._C._dispatch_keys


def flaw_of(value: object) -> str | None:
    """What was found in place of a plain dense tensor, in words; None if `value` is one."""
    if type(value) is not Tensor:
        kind = type(value).__name__
        return f"{kind}, a subclass of Tensor" if isinstance(value, Tensor) else kind
    if value.layout is not torch.strided or value.is_nested:
        return f"a {'nested' if value.is_nested else str(value.layout).removeprefix('torch.')} tensor"
    if _wrapped(value):
        return "a tensor within a transform of torch.func"
    if _keys(value).raw_repr() & ~_plain_keys(value.device.type):
        return f"a tensor that torch computes with in another way ({_keys(value)})"
    if value.device.type != "meta" and Tensor.untyped_storage(value).nbytes() < _needed(value):
        return "a tensor whose memory was taken away"
    return None


def own(value: Tensor) -> Tensor:
    """A copy of a plain dense tensor, in memory of its own, row by row, outside of autograd."""
    copy = torch.clone(Tensor.detach(value), memory_format=torch.contiguous_format)
    return torch.resolve_neg(copy) if torch.is_neg(copy) else copy


def in_words(value: object) -> str:
    """A value for an error sentence: dtype and shape of a plain tensor, else what was found instead."""
    if (flaw := flaw_of(value)) is not None or not isinstance(value, Tensor):
        return str(flaw)
    return f"{value.dtype} {list(value.shape)}"


@cache
def _plain_keys(device: str) -> int:
    """What torch may go by when it computes with a plain dense tensor, a bit each: where it lies, autograd,
    autocast, and that it is to be read with another sign. Quantised and functional tensors have others."""
    plain = torch.empty(0, device=device)
    keys: int = _keys(plain).raw_repr() | _keys(torch._neg_view(plain)).raw_repr()
    return keys


def _needed(value: Tensor) -> int:
    """The bytes that the elements of a tensor reach to in its memory."""
    if not Tensor.numel(value):
        return 0
    steps = zip(value.shape, Tensor.stride(value), strict=True)
    last = Tensor.storage_offset(value) + sum((size - 1) * stride for size, stride in steps)
    return int(last + 1) * Tensor.element_size(value)
