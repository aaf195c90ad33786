"""A worker process: does one job after the other that the process which started it sends."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
from typing import BinaryIO

import torch

from arena.interruptions import Interrupted, heeding
from arena.running.workplace import Message, Workplace

_ALONE = 0.5
"""Seconds after which a worker looks again whether the process that started it still lives."""
_PR_SET_PDEATHSIG = 1


def work(asked: BinaryIO, told: BinaryIO, parent: int) -> None:
    """Do what comes in as packed jobs, until nothing more can come.

    Args:
        asked: the `Supplies`, then packed jobs. told: what is said of each.
        parent: the process that started this one, without which it ends.
    """
    _end_with(parent)
    torch.set_num_threads(1)

    def say(message: Message) -> None:
        try:
            pickle.dump(message, told, pickle.HIGHEST_PROTOCOL)
            told.flush()
        except BrokenPipeError:  # nobody listens any more
            os._exit(1)

    with heeding():
        try:
            place = Workplace(pickle.load(asked))
            while True:
                place.do(pickle.load(asked), say)
        except EOFError:
            pass
        except Interrupted as interrupted:
            os._exit(interrupted.status)


def _end_with(parent: int) -> None:
    """Have this process, and those that it started, end when `parent` ends, however that is."""
    if sys.platform == "linux":  # at once, even where an agent's own code does not let Python's threads run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ALONE)
    if hasattr(os, "killpg"):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(1)
