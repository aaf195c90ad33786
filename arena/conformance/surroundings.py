"""What surrounds an agent and is not its own: the global random generators, and time."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import torch

AMBIENT = 7_220_141
"""The seed of the global generators where nothing else is tried: one that no agent is likely to set."""


class Hang(BaseException):
    """Raised inside code that uses up its time; not an Exception, so that an agent does not catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang once the process has computed for `seconds` within.

    Only in the main thread and where the system has interval timers of processor time; elsewhere there is no
    limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def global_generators(seed: int) -> Iterator[list[str]]:
    """Seed the global generators of torch, numpy and Python, and put them back at the end.

    The list given holds, once the block is left, the names of those that were used within.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
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
    if torch.cuda.is_available():
        states["torch.cuda"] = [s.numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    return states
