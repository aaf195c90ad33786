"""Torch and numpy as games need them, whatever the caller has set (docs/design.md, D7 and D11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

_KINDS = ("cpu", "cuda", "mps")
_ERRORS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # numpy's own
_EXACT = ("ieee", "none")
_SMALLEST, _ONE = 5e-324, 1.0  # variables, so that the product is taken when it is asked for
_CUDA: bool = torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
_BY_BACKEND = hasattr(torch.backends, "fp32_precision")  # from torch 2.9 on


@contextmanager
def own_modes() -> Iterator[None]:
    """Within, torch computes as in a fresh process and in exact float32; afterwards as before.

    That is: gradients can be taken and tensors are no inference tensors; no autocast; new tensors are float32
    on the CPU; no TF32 or bfloat16 in products of float32, no autotuning; subnormal numbers are kept; numpy
    warns of faults. Deterministic kernels are left as the caller wants them. Also a decorator, but not of a
    generator function, which would carry the modes to whoever drives it.
    """
    if in_own_modes():
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in _KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if (dtype := torch.get_default_dtype()) != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if _flushes():
            stack.callback(torch.set_flush_denormal, True)
            torch.set_flush_denormal(False)
        stack.enter_context(np.errstate(**_ERRORS))
        if not _exact():
            _make_exact(stack)
        yield


def in_own_modes() -> bool:
    """Whether everything is as `own_modes` makes it; takes ten microseconds."""
    return in_plain_scope() and not _flushes() and np.geterr() == _ERRORS and _exact()


def in_plain_scope() -> bool:
    """Whether no `with` block of torch's is open that changes what is computed; takes half as long. An
    attacker, which is a generator, may yield within one."""
    new = torch.empty(0)
    return (
        new.dtype == torch.float32
        and new.device.type == "cpu"
        and not new.is_inference()
        and torch.is_grad_enabled()
        and not any(map(torch.is_autocast_enabled, _KINDS))
    )


def _flushes() -> bool:
    """Whether this thread takes subnormal numbers for 0 (`torch.set_flush_denormal`)."""
    return _SMALLEST * _ONE == 0


def _exact() -> bool:
    """Whether products of float32 are those of float32, by kernels that are not chosen by timing."""
    if not _BY_BACKEND:
        return not _legacy()
    of: Any = torch.backends
    leaves = [of.mkldnn.matmul, of.mkldnn.conv]
    if _CUDA:
        leaves += [of.cuda.matmul, of.cudnn.conv, of.cudnn.rnn]
    return not (_CUDA and of.cudnn.benchmark) and all(leaf.fp32_precision in _EXACT for leaf in leaves)


def _legacy() -> list[tuple[Callable[[Any], None], Any, Any]]:
    """The settings of the older interface that are not exact: how to set each, what it should be, and is."""
    cudnn: Any = torch.backends.cudnn
    wanted: list[tuple[Callable[[], Any], Callable[[Any], None], Any]] = [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    ]
    if _CUDA:
        wanted += [
            (partial(getattr, cudnn, name), partial(setattr, cudnn, name), False)
            for name in ("allow_tf32", "benchmark")
        ]
    found = []
    for get, put, value in wanted:
        try:
            now = get()
        except RuntimeError:  # set by the newer interface, which torch does not translate
            continue
        if now != value:
            found.append((put, value, now))
    return found


def _make_exact(stack: ExitStack) -> None:
    """Make products exact until `stack` ends. Each setting is put back as it was."""
    for put, value, now in _legacy():
        stack.callback(put, now)
        put(value)
    if not _BY_BACKEND:
        return
    of: Any = torch.backends
    heads = (of, of.cudnn, of.mkldnn)  # first, so that those below that follow them need not be changed
    leaves = (of.cuda.matmul, of.cudnn.conv, of.cudnn.rnn, of.mkldnn.matmul, of.mkldnn.conv, of.mkldnn.rnn)
    for owner in (*heads, *leaves):
        if (before := owner.fp32_precision) not in _EXACT:
            stack.callback(setattr, owner, "fp32_precision", before)
            owner.fp32_precision = "ieee"
