"""What a network must be like before games are played on it: the same answer to the same image, whatever is
asked beside it and however often."""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

STEADY, TOGETHER = 1e-4, 0.1
"""How far two answers to one batch may be apart, and those to one image alone and in a batch, as shares of
the spread of the logits. Kernels without a fixed order of summation stay far below the first, half precision
in batches of two sizes below the second; dropout and batch statistics are far above."""
_ROUNDING = 1e-5
"""What rounding may do to a logit, as a share of the largest."""
_MOST_OBJECTS = 10_000
_LIBRARIES = ("torch", "numpy", "builtins", "functools", "types")
_INTERNAL = frozenset(vars(nn.Module()))


def network_in_training(model: object) -> str | None:
    """The class of a network in training mode that `model` runs and no `eval()` of it reaches, or None.

    Looked for in what a function closes over, its defaults and the variables of its module that it names, in
    what a method or a partial belongs to, and in plain attributes, lists and tables. Only layers count that
    compute something else in training.
    """
    for network in _hidden(model):
        if any(map(_differs_in_training, network.modules())):
            return type(network).__name__
    return None


def flaw_of_answers(ask: Callable[[Tensor], Tensor], alone: Tensor, x: Tensor) -> str | None:
    """What is wrong with the answers to a batch `x` [n,C,H,W], asked twice, whose first rows have been asked
    without the others, with the answers `alone` [m,K]; None if nothing is."""
    try:
        first, second = (ask(x.clone()).float() for _ in range(2))
    except Exception:
        return None  # it takes no batch of this size; what it takes, the games will tell
    if first.shape != second.shape or first.shape[1:] != alone.shape[1:]:
        return None
    every = torch.cat([first, second, alone.float()])
    finite = every[every.isfinite()]
    if not len(finite):
        return None
    spread, rounding = float(finite.max() - finite.min()), _ROUNDING * float(finite.abs().max())
    if (apart := _apart(first, second)) > STEADY * spread + rounding:
        return f"it answers the same images differently from call to call (logits by up to {apart:.2g})"
    if (apart := _apart(first[: len(alone)], alone.float())) > TOGETHER * spread + rounding:
        return (
            f"it answers an image differently alone and beside others (logits by up to {apart:.2g}), as "
            f"BatchNorm in training mode does"
        )
    return None


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of logits; infinite where only one of them is finite."""
    same = (one == other) | (one.isnan() & other.isnan())
    return float(torch.where(same, 0.0, (one - other).abs()).nan_to_num(nan=torch.inf).max())


def _differs_in_training(layer: nn.Module) -> bool:
    if not layer.training:
        return False
    if isinstance(layer, _DropoutNd):
        return layer.p > 0
    if isinstance(layer, _InstanceNorm):
        return layer.track_running_stats
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase):
        return layer.dropout > 0
    return isinstance(layer, _BatchNorm | nn.RReLU)


def _hidden(model: object) -> Iterator[nn.Module]:
    """The networks that can be reached from `model`, without its own layers."""
    waiting: list[object] = [model]
    seen = {id(model)} | ({id(m) for m in model.modules()} if isinstance(model, nn.Module) else set())
    while waiting and len(seen) < _MOST_OBJECTS:
        thing = waiting.pop()
        if isinstance(thing, nn.Module) and thing is not model:
            yield thing
        for part in _parts(thing):
            if id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)


def _parts(thing: object) -> Iterator[object]:
    """What a thing holds or names, one step away."""
    if isinstance(thing, FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, dict):
        yield from list(thing.values())[:_MOST_OBJECTS]
    elif isinstance(thing, list | tuple | set):
        yield from list(thing)[:_MOST_OBJECTS]
    elif isinstance(thing, nn.Module):
        for layer in thing.modules():
            yield from (value for name, value in vars(layer).items() if name not in _INTERNAL)
            if _is_own(type(layer)):
                yield type(layer).forward
    elif not isinstance(thing, type) and _is_own(type(thing)):
        yield from getattr(thing, "__dict__", {}).values()
        yield from (base.__dict__["__call__"] for base in type(thing).__mro__ if "__call__" in vars(base))


def _of_function(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(code: CodeType) -> set[str]:
    """The variables of its module that a function's code looks up, and the functions within it."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*inner)


def _is_own(kind: type) -> bool:
    """Whether a class is of a user's making, as far as its module tells."""
    return kind.__module__.partition(".")[0] not in _LIBRARIES


def odd_form(logits: object) -> str | None:
    """What a network answered in place of a plain dense tensor; None if that is what it is."""
    if not isinstance(logits, Tensor) or type(logits) not in (Tensor, nn.Parameter):
        return f"a {type(logits).__name__}"
    if logits.layout is not torch.strided or logits.is_nested or logits.is_meta:
        form = "nested" if logits.is_nested else str(logits.layout).removeprefix("torch.")
        return f"a {form} tensor on {logits.device}"
    return None


def no_logits(logits: object, images: int) -> str | None:
    """What a network answered to `images` images in place of floating-point logits [n,K], K > 1; None if that
    is what it is."""
    if (form := odd_form(logits)) is not None or not isinstance(logits, Tensor):
        return form
    right = logits.dim() == 2 and len(logits) == images and logits.shape[1] > 1
    if right and logits.is_floating_point():
        return None
    return f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)} to {images} images"
