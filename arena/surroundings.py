"""What surrounds agents in their process and is none of theirs: global random generators, the current folder,
settings of Python's. Each shard begins with the same, and leaves all as it was."""

from __future__ import annotations

import decimal
import gc
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from arena.interruptions import HEEDED

_printing: Any = torch._tensor_str.PRINT_OPTS
_cuda: Any = torch.cuda
_HANDLED = (*HEEDED, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)

_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (os.getcwd, os.chdir),
    (lambda: _file_mask(), os.umask),
    (gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    (sys.getswitchinterval, sys.setswitchinterval),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (lambda: decimal.getcontext().copy(), decimal.setcontext),
    (np.get_printoptions, lambda options: np.set_printoptions(**options)),
    (lambda: vars(_printing).copy(), lambda options: vars(_printing).update(options)),
    (lambda: (sys.excepthook, sys.unraisablehook), lambda hooks: _set_excepthooks(*hooks)),
    (lambda: (sys.stdout, sys.stderr), lambda streams: _set_streams(*streams)),
    (lambda: dict(os.environ), lambda variables: _set_environment(variables)),
    (lambda: list(sys.path), lambda path: sys.path.__setitem__(slice(None), path)),
)


@contextmanager
def own_surroundings(seed: int) -> Iterator[None]:
    """Within, the global random generators begin at `seed`; afterwards they, the current folder, the
    environment, the handlers of signals that ask to stop and of timers, filters of warnings, standard output,
    the module search path, and what else is set for all of Python are as before."""
    with ExitStack() as stack:
        stack.enter_context(global_generators(seed))
        stack.enter_context(warnings.catch_warnings())
        for get, put in _SETTINGS:
            stack.callback(_put_back, get, put, get())
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                if (handler := signal.getsignal(number)) is not None:
                    stack.callback(signal.signal, number, handler)
        stack.callback(stop_timers, timers())
        yield


def timers() -> tuple[bool, ...]:
    """Which of the system's timers run, of those that send a signal."""
    return tuple(signal.getitimer(kind)[0] > 0 for kind in _TIMERS)


def stop_timers(before: tuple[bool, ...]) -> None:
    """Stop the timers that did not run `before`: their signals would come while others compute."""
    for kind, was, runs in zip(_TIMERS, before, timers(), strict=True):
        if runs and not was:
            signal.setitimer(kind, 0)


@contextmanager
def global_generators(seed: int) -> Iterator[list[str]]:
    """Seed the global generators of torch, numpy and Python, and put them back at the end.

    The list given holds, once the block is left, the names of those that were used within.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if _cuda.is_initialized() else []
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which writes down who called it
    if _cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    before = _states()
    used: list[str] = []
    try:
        yield used
    finally:
        after = _states()
        used += [name for name in before if before[name] != after[name]]
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def _states() -> dict[str, object]:
    name, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    states: dict[str, object] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(keys).tobytes(), place, has_gauss, gauss),
        "random": random.getstate(),
    }
    if _cuda.is_initialized():
        states["torch.cuda"] = [s.numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    return states


def _put_back(get: Callable[[], Any], put: Callable[[Any], Any], before: Any) -> None:
    try:
        now = get()
    except OSError:  # a current folder that is there no more
        now = None
    if now != before:
        put(before)


def _file_mask() -> int:
    mask = os.umask(0o077)  # there is no way to look at it but to set it
    os.umask(mask)
    return mask


def _set_excepthooks(exceptions: Any, unraisable: Any) -> None:
    sys.excepthook, sys.unraisablehook = exceptions, unraisable


def _set_streams(out: Any, err: Any) -> None:
    sys.stdout, sys.stderr = out, err


def _set_environment(variables: dict[str, str]) -> None:
    for name in set(os.environ) - set(variables):
        del os.environ[name]
    os.environ.update(variables)
