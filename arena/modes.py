"""Torch, numpy and Python as games need them, whatever the caller has set and whatever an agent sets
(docs/design.md, D7 and D11)."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch._functorch import pyfunctorch
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import _disable_current_modes, _pop_mode

_C: Any = torch._C
_transforms: Any = pyfunctorch
_saved: Any = _C._autograd
_ERRORS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # numpy's own
_EXACT = ("ieee", "none")
_SMALLEST, _ONE = 5e-324, 1.0  # variables, so that the product is taken when it is asked for
_CUDA: bool = torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
_BY_BACKEND = hasattr(torch.backends, "fp32_precision")  # from torch 2.9 on
_LEAVES: tuple[tuple[str, str], ...] = (("mkldnn", "matmul"), ("mkldnn", "conv"))
if _CUDA:
    _LEAVES += (("cuda", "matmul"), ("cuda", "conv"), ("cuda", "rnn"))

_FOR_GOOD: list[Any] = []
"""Guards against an inference mode that somebody left behind: ended, they would bring it back."""

Modes = list[Any]
"""What is set, to be compared with what is set later."""


def _flushes() -> bool:
    """Whether this thread takes subnormal numbers for 0 (`torch.set_flush_denormal`)."""
    return _SMALLEST * _ONE == 0


def _set_anomaly(on: bool) -> None:
    torch.set_anomaly_enabled(on)


_HOOKS: tuple[dict[Any, Any], ...] = tuple(
    found for name, found in vars(modules).items() if name.startswith("_global_") and isinstance(found, dict)
)
"""What torch calls around the forward and backward passes of every module there is, by kind."""
_NO_HOOKS: tuple[dict[Any, Any], ...] = tuple({} for _ in _HOOKS)


def _hooks() -> tuple[dict[Any, Any], ...]:
    return tuple(map(dict, _HOOKS)) if any(_HOOKS) else _NO_HOOKS


def _set_hooks(hooks: tuple[dict[Any, Any], ...]) -> None:
    for kind, wanted in zip(_HOOKS, hooks, strict=True):
        kind.clear()
        kind.update(wanted)


def _forbid_saving(why: str | None) -> None:
    if why is None:
        _saved._saved_tensors_hooks_enable()
    else:
        _saved._saved_tensors_hooks_disable(why)


def _saves_plainly() -> bool:
    """Whether autograd keeps the tensors of a forward pass as they are."""
    return _saved._top_saved_tensors_default_hooks(True) is None


def _pop_savers() -> list[Any]:
    found = []
    while not _saves_plainly():
        found.append(_saved._top_saved_tensors_default_hooks(True))
        _saved._pop_saved_tensors_default_hooks()
    return found


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _autocast(kind: str) -> tuple[Callable[[], Any], Callable[[Any], Any], Any]:
    return partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind), False


_OWN: tuple[tuple[Callable[[], Any], Callable[[Any], Any], Any], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.is_grad_enabled, _C._set_grad_enabled, True),
    _autocast("cpu"),
    _autocast("cuda"),
    _autocast("mps"),
    (_flushes, torch.set_flush_denormal, False),
    (torch.is_anomaly_enabled, _set_anomaly, False),
    (np.geterr, lambda errors: np.seterr(**errors), _ERRORS),
    (_C._get_mkldnn_enabled, _C._set_mkldnn_enabled, True),
    (_C._get_nnpack_enabled, _C._set_nnpack_enabled, True),
    (_C._get_cudnn_enabled, _C._set_cudnn_enabled, True),
    (_C._get_cudnn_benchmark, _C._set_cudnn_benchmark, False),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, True),
    (_C._get_flash_sdp_enabled, _C._set_sdp_use_flash, True),
    (_C._get_mem_efficient_sdp_enabled, _C._set_sdp_use_mem_efficient, True),
    (_C._get_math_sdp_enabled, _C._set_sdp_use_math, True),
    (_hooks, _set_hooks, _NO_HOOKS),
    (_saved._saved_tensors_hooks_get_disabled_error_message, _forbid_saving, None),
)
"""How to get and set what games need in one way, and that way."""

_KEPT: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (_C._get_cudnn_deterministic, _C._set_cudnn_deterministic),
    (_C._get_mkldnn_deterministic, _C._set_mkldnn_deterministic),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (lambda: list(warnings.filters), _set_filters),
)
"""How to get and set what is the caller's to choose, and nobody's to change within."""

_SCOPES: tuple[tuple[Callable[[], Any], Any], ...] = (
    (torch.is_inference_mode_enabled, False),
    (_C._len_torch_function_stack, 0),
    (_C._len_torch_dispatch_stack, 0),
    (_C._functorch.maybe_current_level, None),
    (_saves_plainly, True),
)
"""What tells of `with` blocks of torch's that decide what an operation does, and what it tells where there is
none."""


def _precision(*leaf: str) -> str:
    found: str = _C._get_fp32_precision_getter(*leaf)
    return _EXACT[0] if found in _EXACT else found


_PRECISIONS: tuple[Callable[[], Any], ...] = (torch.get_float32_matmul_precision,)
if _BY_BACKEND:
    _PRECISIONS = tuple(partial(_precision, *leaf) for leaf in _LEAVES)

_GETTERS = (
    *[get for get, _ in _SCOPES],
    *[get for get, _, _ in _OWN],
    *_PRECISIONS,
    *[get for get, _ in _KEPT],
)
_WANTED: Modes = [*[none for _, none in _SCOPES], *[own for _, _, own in _OWN]]


@contextmanager
def own_modes() -> Iterator[None]:
    """Within, torch computes as in a fresh process and in exact float32; afterwards as before.

    That is: gradients can be taken and tensors are no inference tensors; no autocast; new tensors are float32
    on the CPU; no TF32 or bfloat16 in products of float32, no autotuning; the usual kernels; subnormal
    numbers are kept; nothing of torch's is overridden, nor called around every module; numpy warns of faults.
    The number of threads, deterministic kernels, filters of warnings and the recursion limit are left as the
    caller wants them. What changes within is undone, too. Also a decorator, but not of a generator function,
    which would carry the modes to whoever drives it.
    """
    before = modes()
    if _are_own(before):
        try:
            yield
        finally:
            if modes() != before:
                _undo(before)
        return
    with ExitStack() as stack:
        _enter(stack)
        try:
            yield
        finally:
            _undo(before)


def in_own_modes() -> bool:
    """Whether everything is as `own_modes` makes it; takes three microseconds."""
    return _are_own(modes())


def modes() -> Modes:
    """What is set now, threads and deterministic kernels included; takes three microseconds."""
    return [get() for get in _GETTERS]


@contextmanager
def back_in(before: Modes) -> Iterator[None]:
    """Within own modes as `modes` found them `before`, now that somebody has set others, which are his again
    afterwards."""
    with ExitStack() as stack:
        for (get, put), value in zip(_KEPT, before[-len(_KEPT) :], strict=True):
            if (now := get()) != value:
                stack.callback(put, now)
                put(value)
        with own_modes():
            yield


def _are_own(found: Modes) -> bool:
    precisions = found[len(_WANTED) : -len(_KEPT)]
    exact = all(p == _EXACT[0] for p in precisions) if _BY_BACKEND else not _legacy()
    return found[: len(_WANTED)] == _WANTED and exact


def _enter(stack: ExitStack) -> None:
    """Set everything as games need it, until `stack` ends."""
    if any(get() != none for get, none in _SCOPES):
        stack.enter_context(_transforms.temporarily_clear_interpreter_stack())
        stack.enter_context(_disable_current_modes())
        stack.enter_context(_no_function_modes())
        stack.enter_context(_no_savers())
        stack.enter_context(torch.inference_mode(False))
    for get, put, own in _OWN:
        if (now := get()) != own:
            stack.callback(put, now)
            put(own)
    _make_exact(stack)


def _undo(before: Modes) -> None:
    """Have everything as games need it again, and the rest as `before`, whatever happened within."""
    if not in_own_modes():
        _leave_scopes()
        _enter(ExitStack())  # dropped, not ended: what was set now is to stay
    for (get, put), value in zip(_KEPT, before[-len(_KEPT) :], strict=True):
        if get() != value:
            put(value)


def _leave_scopes() -> None:
    """End the `with` blocks of torch's that somebody began and did not end."""
    while _C._functorch.peek_interpreter_stack() is not None:
        _transforms.pop_dynamic_layer_stack()
    while _C._len_torch_function_stack():
        _C._pop_torch_function_stack()
    while _C._len_torch_dispatch_stack():
        _pop_mode()
    _pop_savers()
    if torch.is_inference_mode_enabled():
        _FOR_GOOD.append(_C._InferenceMode(False))


@contextmanager
def _no_function_modes() -> Iterator[None]:
    found = [_C._pop_torch_function_stack() for _ in range(_C._len_torch_function_stack())]
    try:
        yield
    finally:
        for mode in reversed(found):
            _C._push_on_torch_function_stack(mode)


@contextmanager
def _no_savers() -> Iterator[None]:
    found = _pop_savers()
    try:
        yield
    finally:
        for pair in reversed(found):
            _saved._push_saved_tensors_default_hooks(*pair)


def _legacy() -> list[tuple[Callable[[Any], None], Any, Any]]:
    """The settings of the older interface that are not exact: how to set each, what it should be, and is."""
    wanted: list[tuple[Callable[[], Any], Callable[[Any], None], Any]] = [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    ]
    if _CUDA:
        wanted.append((_C._get_cudnn_allow_tf32, _C._set_cudnn_allow_tf32, False))
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
