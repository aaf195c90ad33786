"""What surrounds an agent in a check: how the global random generators are seeded, and time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
