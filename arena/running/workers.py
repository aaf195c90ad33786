"""Worker processes on this machine."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch

from arena.messages import UserError, harmless
from arena.running.crew import Died, Heard
from arena.running.workplace import Supplies

MOST = 1024
"""The most workers of one run."""
_START = """
import os, pickle, sys
asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.close(nothing)
os.dup2(2, 1)
sys.path[:], parent = pickle.load(asked)
from arena.running.worker import work
work(asked, told, parent)
"""
"""What a worker runs. Whatever agents read or print there, the pipes to this process are not theirs."""
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Threads that wait in loops would take the cores from other workers; read when torch is loaded."""
_LATE = 5.0
"""Seconds for which the last words of a dead worker are waited for."""
_WAITING = 2
"""Messages for each worker that may wait for this process before the worker waits for it."""


class WorkerError(UserError):
    """Workers that cannot be had: one sentence."""


def parse_workers(text: str) -> int:
    """How many workers `--workers` asks for: a number, or `auto` for one on each core that this process may
    use.

    Raises:
        WorkerError: if it is neither.
    """
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= MOST):
        raise WorkerError(f"--workers: found {text!r}; it must be a number from 1 to {MOST}, or auto")
    return int(text)


def devices_of(device: str, count: int) -> list[str]:
    """The device of each of `count` workers: `cuda` means the GPUs in turn, where they are of one model;
    everything else means itself."""
    if device != "cuda":
        return [device] * count
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    alike = [i for i, name in enumerate(names) if name == names[0]]
    return [f"cuda:{alike[i % len(alike)]}" for i in range(count)]


class WorkerPool:
    """A `Pool` of processes. Use it in a `with` statement; at its end none of them lives.

    Each plays with threads that depend on its work alone, as this process does (arena.classifiers.threads).
    """

    def __init__(self, supplies: Supplies, count: int) -> None:
        self.seats = count
        self._supplies = [
            pickle.dumps(replace(supplies, device=d)) for d in devices_of(supplies.device, count)
        ]
        self._workers: list[_Worker | None] = [None] * count
        self._heard: queue.Queue[tuple[_Worker, Heard]] = queue.Queue(_WAITING * count)

    def give(self, seat: int, job: bytes) -> None:
        """Have the worker of that seat do a job; it is started if it does not live."""
        worker = self._workers[seat]
        if worker is None:
            worker = self._workers[seat] = _Worker(self._supplies[seat], self._heard)
        worker.send(job)

    def hear(self) -> tuple[int, Heard]:
        """What a worker says next: its seat and the message."""
        while True:
            worker, message = self._heard.get()
            if worker in self._workers:  # else it was dropped
                seat = self._workers.index(worker)
                if isinstance(message, Died):
                    self._workers[seat] = None
                return seat, message

    def drop(self, seat: int) -> None:
        """Have a job end in the middle, with its worker."""
        if (worker := self._workers[seat]) is not None:
            self._workers[seat] = None
            worker.end()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for seat in range(self.seats):
            self.drop(seat)


class _Worker:
    """A worker process, and the threads that hear it."""

    def __init__(self, supplies: bytes, heard: queue.Queue[tuple[_Worker, Heard]]) -> None:
        self._all_heard, self._ended = heard, False
        self._unsaid: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_PASSIVE, **os.environ},
            # Ctrl-C is for the process that holds the log; what a worker starts ends with its group.
            process_group=0 if hasattr(os, "setpgid") else None,
        )
        self._listening = _thread(self._listen)
        for thread in (self._listening, *map(_thread, (self._speak, self._show, self._wait))):
            thread.start()
        self._unsaid.put(pickle.dumps((sys.path, os.getpid())) + supplies)

    def send(self, job: bytes) -> None:
        """Have it do a job, once it listens."""
        self._unsaid.put(pickle.dumps(job))

    def end(self) -> None:
        """End it at once, with all that it started."""
        self._ended = True
        _kill(self._process)

    def _speak(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as asked:  # that it died is heard
            while (content := self._unsaid.get()) is not None:
                asked.write(content)
                asked.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as told, suppress(Exception):  # whatever is left of a message if it died
            while True:
                self._tell(pickle.load(told))
        _kill(self._process)

    def _tell(self, message: Heard) -> None:
        while not self._ended:
            with suppress(queue.Full):
                self._all_heard.put((self, message), timeout=1)
                return

    def _show(self) -> None:
        """Print what agents print, as they do where they play in this process."""
        assert self._process.stderr is not None
        with self._process.stderr as printed:
            for line in printed:
                with suppress(OSError, ValueError):  # nobody looks, but the worker must not wait for that
                    sys.stderr.write(harmless(line.decode(errors="replace")))

    def _wait(self) -> None:
        if hasattr(os, "waitid"):  # not yet forgotten, so that nobody else has its number
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            _kill(self._process)  # what it started, which may hold its pipes
        how = _how(self._process.wait())
        self._unsaid.put(None)
        self._listening.join(_LATE)
        self._tell(Died(how))


def _thread(target: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=target, daemon=True)


def _kill(process: subprocess.Popen[Any]) -> None:
    """End a process and its group, and wait for the end."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
    process.wait()


def _how(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"it ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"{name} ended it"
