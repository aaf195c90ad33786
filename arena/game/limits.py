"""How much of its limits a shard has used up (docs/scenarios.md, "Limits")."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from arena.rules.limits import Limits

LOOKING = 0.25
"""Seconds between two looks at the memory of the process, which take some ten microseconds each."""
_MIB = 2**20


class Meter:
    """Counts what an attacker takes in a shard, and says when a limit is met.

    Memory is that of the whole process, beyond what it held when the meter was made.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.idle = limits, 0
        self._began = 0 if limits.memory is None else resident()
        self._looked = time.monotonic()

    def moved(self, seconds: float) -> str | None:
        """A move took so long to be made: one sentence if that, or the memory, is beyond its limit."""
        if (late := overtime(self.limits, "a move", seconds)) is not None:
            return late
        if self.limits.moves is not None and self.idle >= self.limits.moves:
            return f"{self.idle:,} moves were made without a query, as many as may be (limits.moves)"
        return self._memory()

    def served(self, *, idle: bool) -> None:
        """A move was answered; `idle`: it was no query that was granted."""
        self.idle += idle

    def _memory(self) -> str | None:
        most = self.limits.memory
        if most is None or time.monotonic() - self._looked < LOOKING:
            return None
        self._looked = time.monotonic()
        if (grown := (resident() - self._began) / _MIB) > most:
            return f"the process has grown by {grown:,.0f} MiB; the limit is {most:,g} MiB (limits.memory)"
        return None


def overtime(limits: Limits, what: str, seconds: float) -> str | None:
    """One sentence if `what` took longer than it may."""
    if limits.seconds is None or seconds <= limits.seconds:
        return None
    return f"{what} took {seconds:.3g} s; the limit is {limits.seconds:g} s (limits.seconds)"


def resident() -> int:
    """Bytes of the process in memory; where the system does not tell them, the most there ever were."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
