"""The arena's side of agents' processes: how they are begun, watched, and ended."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

from arena.game.blame import Told
from arena.isolation.grants import Grants, grants_for
from arena.isolation.nursery import LONGEST
from arena.isolation.sandbox import lacking
from arena.isolation.wire import Closed, Garbled, Message, Room, Wire
from arena.messages import UserError, brief
from arena.rules.limits import Limits

SECONDS = 60.0
"""That a move or an answer may take where the scenario says nothing; and that a process may take to begin."""
MEMORY = 4096.0
"""MiB by which an agent's process may grow where the scenario says nothing."""
THREADS = 256
"""Threads that an agent's process may have."""
_NURSERY = "the process that agents' processes are forked from"
_KEPT = (
    *("LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"),
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
)
"""What the environment says of libraries and of arithmetic, which is to be the same."""
_LOOKING = 0.1
_MIB = 2**20


class IsolationError(UserError):
    """Agents cannot be isolated here: one sentence."""


class Child:
    """An agent's process, from its beginning to its end; nothing is left of it after the block.

    Args:
        modules: those that the agent is written in.
        limits: what it may take; `SECONDS` and `MEMORY` stand in for what is not limited.

    Raises:
        Told: wherever the agent's process failed, met a limit, or sent what it must not: one sentence.
        IsolationError: if no process can be isolated here.
    """

    def __init__(self, modules: Sequence[str], limits: Limits) -> None:
        self._seconds = SECONDS if limits.seconds is None else limits.seconds
        self._memory = int((MEMORY if limits.memory is None else limits.memory) * _MIB)
        self._limits, self._printed = limits, 0
        self._deadline, self._doing, self._looked, self._said = 0.0, "", 0.0, b""
        mine, its = socket.socketpair()
        self._output, output = os.pipe()
        self._socket = mine
        mine.setblocking(False)
        os.set_blocking(self._output, False)
        try:
            self._nursery = nursery()
            grants = grants_for(modules)
            self._number = self._nursery.fork(grants, self._memory, (its.fileno(), output))
        except BaseException:
            self._close()
            raise
        finally:
            its.close()
            os.close(output)
        self._held = _resident(self._number)
        self.wire = Wire(mine.fileno(), Room(), self._wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def ask(self, message: Message, doing: str, seconds: float | None = None, spent: float = 0.0) -> Message:
        """Send a message; what it answers.

        Args:
            doing: what it does meanwhile, for the sentence on its being late.
            seconds: that it may take; None: as the limits say.
            spent: those of them that it took already.
        """
        self._doing = doing
        self._allowed = self._seconds if seconds is None else seconds
        self._deadline = time.monotonic() + self._allowed - spent
        try:
            self.wire.send(message)
            answer = self.wire.receive()
        except Closed:
            raise Told(self._how_it_ended()) from None
        except Garbled as error:
            raise Told(f"its process sent {error}") from None
        if answer.kind == "failed":
            raise Told(str(answer.values.get("said")))
        return answer

    def _wait(self, event: int) -> None:
        """Until the wire can be read or written; what the process takes meanwhile is looked at."""
        poll = select.poll()
        poll.register(self.wire.descriptor, event)
        poll.register(self._output, select.POLLIN)
        while True:
            now = time.monotonic()
            if now >= self._deadline:
                raise Told(
                    f"{self._doing} took longer than the {self._allowed:g} s that it may (limits.seconds)"
                )
            if now - self._looked >= _LOOKING:
                self._looked = now
                self._look()
            found = dict(poll.poll(1000 * min(_LOOKING, self._deadline - now)))
            if self._output in found:
                self._drain(poll)
            if self.wire.descriptor in found:
                return

    def _drain(self, poll: select.poll) -> None:
        try:
            said = os.read(self._output, 2**16)
        except BlockingIOError:
            return
        if not said:
            with suppress(KeyError):
                poll.unregister(self._output)
            return
        self._printed, self._said = self._printed + len(said), said[-500:]
        if self._printed > self._limits.output:
            raise Told(f"it printed more than the {self._limits.output:,} bytes that it may (limits.output)")

    def _look(self) -> None:
        grown = _resident(self._number) - self._held
        if grown > self._memory:
            raise Told(
                f"its process has grown by {grown / _MIB:,.0f} MiB; the limit is "
                f"{self._memory / _MIB:,g} MiB (limits.memory)"
            )
        if (threads := _threads(self._number)) > THREADS:
            raise Told(f"its process has {threads:,} threads, where {THREADS} are the most")

    def _how_it_ended(self) -> str:
        self._drain(select.poll())
        said = brief(self._said.decode(errors="replace").strip())
        said = f" ({said})" if said else ""
        how = self.end()
        if how == -signal.SIGKILL:  # by the system, or here, since it can be heard no more
            return f"its process was killed, or closed its channel, during {self._doing}"
        if how < 0:
            name = signal.Signals(-how).name if -how in set(signal.Signals) else "unknown"
            return f"its process was ended by signal {-how} ({name}) during {self._doing}{said}"
        return f"its process ended by itself, with status {how}, during {self._doing}{said}"

    def end(self) -> int:
        """Kill it, if it still runs; how it ended, as `os.waitstatus_to_exitcode` says."""
        if self._number:
            number, self._number = self._number, 0
            self._close()
            self._how = self._nursery.end(number)
        return self._how

    def _close(self) -> None:
        self._socket.close()
        os.close(self._output)


class _Nursery:
    """The process that agents' processes are forked from, as the arena holds it."""

    def __init__(self) -> None:
        if (why := lacking()) is not None:
            raise IsolationError(why)
        self.owner, self._lock = os.getpid(), threading.Lock()
        self._line, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "arena.isolation.nursery", str(its.fileno()), str(os.getpid())]
        paths = os.pathsep.join(_search_path())
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._process = subprocess.Popen(
            command,
            env={**environment, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            pass_fds=(its.fileno(),),
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # a signal from the terminal is the arena's to heed
        )
        its.close()
        if self._line.recv(LONGEST) != b"ready":
            raise IsolationError(f"{_NURSERY} did not begin")

    @property
    def lives(self) -> bool:
        return self.owner == os.getpid() and self._line.fileno() >= 0 and self._process.poll() is None

    def fork(self, grants: Grants, memory: int, descriptors: Sequence[int]) -> int:
        """The number of a new process that holds `descriptors`: of its channel, and of what it prints."""
        wanted = {
            "readable": grants.readable,
            "listable": grants.listable,
            "own": grants.own,
            "memory": memory,
            "path": _search_path(),
        }
        number: int = self._asked(wanted, descriptors)
        return number

    def end(self, number: int) -> int:
        """Kill a process, if it still runs; how it ended. Where the nursery is gone, it went with it."""
        try:
            how: int = self._asked({"end": number})[0]
        except IsolationError:
            return -signal.SIGKILL
        return how

    def _asked(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> Any:
        with self._lock, _nothing_collected():
            try:
                socket.send_fds(self._line, [json.dumps(request).encode()], list(descriptors))
                reply = self._line.recv(LONGEST)
            except OSError as error:
                raise IsolationError(f"{_NURSERY} does not answer: {error}") from error
            except BaseException:  # the user's: the reply would be taken for that to the next request
                self._line.close()
                raise
        if not reply:
            raise IsolationError(f"{_NURSERY} ended")
        return json.loads(reply)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No cycle is collected meanwhile: in it may be one whose end asks the nursery, too."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


_nurseries: list[_Nursery] = []
_beginning = threading.Lock()


def nursery() -> _Nursery:
    """This process's nursery, begun when it is first needed."""
    with _beginning:
        if not _nurseries or not _nurseries[-1].lives:
            _nurseries[:] = [_Nursery()]
        return _nurseries[-1]


def _search_path() -> list[str]:
    return [str(Path(place or ".").resolve()) for place in sys.path]


@cache
def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")


def _resident(number: int) -> int:
    """Bytes of a process in memory that are its own: what it was forked with is not copied."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{number}/statm").read_text(encoding="ascii").split()
    except OSError:  # it is no more
        return 0
    return (int(resident) - int(shared)) * _page()


def _threads(number: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{number}/task").iterdir())
    except OSError:
        return 0
