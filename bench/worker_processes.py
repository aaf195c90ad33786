"""The worker processes of a run, as the system shows them."""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE = 20.0
"""Seconds after which a worker that outlives its run counts as left behind."""


def workers_of(process: int) -> list[int]:
    """The numbers of the worker processes that a process started, in the order in which it did."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                words = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if int(parent) == process and state != "Z" and b"arena.running.worker" in words:
                found.append(int(folder.name))
    return sorted(found)


def left_behind(workers: list[int]) -> list[int]:
    """Which of these live on although their run has ended."""
    end = time.monotonic() + PATIENCE
    while living := [pid for pid in workers if _lives(pid)]:
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return living


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z" and b"arena.running.worker" in words
