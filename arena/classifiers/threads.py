"""How many threads torch uses on the CPU: by a rule in a forward pass, one for everything else in a game.

A sum split among threads is rounded differently from one that is not, and splitting small work loses more
time on shared cores than it gains on idle ones. So the number depends on the work alone, never on the
machine's cores, its load or the number of workers (docs/design.md, D7).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

RULE: tuple[tuple[int, int], ...] = ((2**28, 2), (2**32, 4))
"""(multiply-adds of a pass, threads from there on); one thread below the first.

2^28 take about 6 ms on one core. Shorter passes gain a fifth from a second thread that starts immediately,
and lose a time slice of the system (some milliseconds) at each layer if it does not.
"""
UNCOUNTED = 2
"""Threads of a network whose work cannot be counted."""


def threads_for(multiply_adds: float) -> int:
    """Threads of a forward pass on the CPU of so many multiply-adds.

    The number holds on a machine with fewer cores, too; its threads then take turns.
    """
    return max((threads for least, threads in RULE if multiply_adds >= least), default=1)


@contextmanager
def computing_threads(number: int) -> Iterator[None]:
    """Torch computes in so many threads; afterwards in as many as before, whatever happens within.

    Holds for the calling thread of Python. Also a decorator.
    """
    before = torch.get_num_threads()
    if before != number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def multiply_adds(module: nn.Module, x: Tensor) -> float:
    """Multiply-adds of `module` on `x`, in convolutions, matrix products and attention; 0 if it fails.

    A copy is run, so that neither the module nor a hook that listens to it takes `x` for an image of a game.
    """
    count = CountedWork()
    try:
        copied = copy.deepcopy(module)
        for layer in copied.modules():
            layer._forward_hooks.clear()
            layer._forward_pre_hooks.clear()
        with computing_threads(1), torch.inference_mode(False), torch.no_grad(), count:
            copied(x)
    except Exception:
        return 0
    return count.multiply_adds


class CountedWork(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the multiply-adds of convolutions, matrix products and attention, by the formulas of torch's
    own counter; of element-wise operations nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @property
    def multiply_adds(self) -> float:
        return self.flops / 2

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch would load its compiler in order to skip it, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket not in flop_registry and torch.is_inference_mode_enabled():
            with self:  # there whole layers come, and the formulas know what they consist of
                if (parts := func.decompose(*args, **(kwargs or {}))) is not NotImplemented:
                    return parts
        made = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=made)
        return made
