"""A server that goes away is waited for."""

from __future__ import annotations

import time
from threading import Event

from arena.log.errors import SAFE, Unreachable
from arena.progress import remark

SERVER_WAIT = 60.0
"""Seconds for which a server that went away is waited for."""

_PAUSE = 0.5


class Waiting:
    """Waits between attempts at one job, and says so once.

    Args:
        name: of the log.
        closing: set once the log is being closed, when nothing is waited for any more.
    """

    def __init__(self, name: str, closing: Event) -> None:
        self.name, self.closing = name, closing
        self.end: float | None = None

    def wait(self, error: Unreachable) -> None:
        """Wait until the next attempt.

        Raises:
            Unreachable: if it is no use any longer.
        """
        if self.end is None:
            self.end = time.monotonic() + SERVER_WAIT
            if not self.closing.is_set():
                remark(f"log {self.name}: the server does not answer; waiting up to {SERVER_WAIT:g} s for it")
        if time.monotonic() >= self.end:
            said = f"log {self.name}: the server did not answer for {SERVER_WAIT:g} s: {SAFE}"
            raise Unreachable(said) from error
        if self.closing.wait(_PAUSE):
            raise error
