"""In how many threads torch computes on the CPU: a forward pass by a rule, all else of a game in one.

A sum that is cut among threads is rounded otherwise than one that is not, and small work that is cut loses
more where cores are shared than it gains where they are idle. So the number follows from the work alone,
never from the machine's cores, its load or the number of workers (DESIGN.md, D7).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

RULE: tuple[tuple[int, int], ...] = ((2**28, 2), (2**32, 4))
"""Multiply-adds of a pass from which on it takes so many threads; one below the first.

2^28 take one core some 6 ms. Shorter passes gain a fifth from a second thread that is there at once, and
lose a time slice of the system (some milliseconds) at each layer where it is not.
"""
UNCOUNTED = 2
"""Threads of a network whose work nobody can count beforehand."""


def threads_for(multiply_adds: float) -> int:
    """Threads of a forward pass on the CPU of so many multiply-adds.

    The number holds on a machine with fewer cores, too: its threads then take turns.
    """
    return max((threads for least, threads in RULE if multiply_adds >= least), default=1)


@contextmanager
def computing_threads(number: int) -> Iterator[None]:
    """Torch computes in so many threads; in as many as before afterwards, whatever happens within.

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
