"""Signals that ask a command to stop: Ctrl-C, a termination, a terminal that closes.

    with heeding():
        play()      # a signal raises Interrupted in the main thread; a second one ends the process at once

An `Interrupted` that foreign code swallows is not lost: `raise_pending` raises it again.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HEEDED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask to stop; not every system has SIGHUP."""
_SHOW_CURSOR = "\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to stop.

    Attributes:
        signal: which one.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.signal = number

    @property
    def status(self) -> int:
        """The exit status that says so, as shells have it."""
        return 128 + self.signal

    def __str__(self) -> str:
        return self.signal.name


class _Watch:
    """What `heeding` keeps: the signal that came, whether it is only noted, and what to say at an end."""

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self.noting = 0
        self.words: Callable[[], str] = lambda: ""

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None:
            self._end(number)
        self.caught = signal.Signals(number)
        if not self.noting:
            raise Interrupted(self.caught)

    def _end(self, number: int) -> None:
        """End the process at once: whoever asks twice does not wait for what the first signal began."""
        try:
            words = self.words()
            said = f"interrupted again, and ended at once{': ' if words else ''}{words}\n"
            shown = _SHOW_CURSOR if os.isatty(2) else ""  # a progress bar may have hidden it
            os.write(2, f"{shown}\n{said}".encode(errors="replace"))
        finally:
            os._exit(128 + number)


_watch: _Watch | None = None


@contextmanager
def heeding() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise `Interrupted` in the main thread; at the end, handlers are put back.

    One that was ignored stays ignored (`nohup`, a shell's background). A second signal ends the process at
    once, with a sentence and its own status. Within another `heeding`, or in another thread than the main
    one, this does nothing.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _watch = watch = _Watch()
    before = {number: signal.getsignal(number) for number in HEEDED}
    ours = {n: handler for n, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in ours:
            signal.signal(number, watch.handle)
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        _watch = None


def end_quietly() -> None:
    """Where signals are not heeded, Ctrl-C ends this process as other signals do: without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def noting() -> Iterator[None]:
    """A first signal within is only noted (`caught`), for work that stops by itself at a good place.

    Nothing is raised at the end: `raise_pending` does that where it is wanted.
    """
    watch = _watch
    if watch is None:
        yield
        return
    watch.noting += 1
    try:
        yield
    finally:
        watch.noting -= 1


def caught() -> signal.Signals | None:
    """The signal that asked this process to stop, if `heeding` is active and one came."""
    return None if _watch is None else _watch.caught


def raise_pending() -> None:
    """Raise `Interrupted` if a signal came whose own was swallowed, or only noted."""
    if _watch is not None and _watch.caught is not None:
        raise Interrupted(_watch.caught)


def of_the_user(error: BaseException) -> bool:
    """Whether what came out of foreign code is the user's wish to stop, not the code's own doing.

    While signals are heeded: a KeyboardInterrupt after a signal came. Where they are not (a notebook): a
    plain KeyboardInterrupt, since Python's own handler raises that one.
    """
    if _watch is None:
        return isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted)
    return isinstance(error, KeyboardInterrupt) and _watch.caught is not None


def is_the_users(error: BaseException) -> bool:
    """Whether what came out of foreign code is the user's wish to stop: that alone ends more than a match.

    Raises:
        Interrupted: if a signal asked to stop, and the foreign code made something else of it.
    """
    if of_the_user(error):
        return True
    raise_pending()
    return False


def promise(words: Callable[[], str]) -> None:
    """From here on, `words` say what is safe and how to go on if a signal ends this command."""
    if _watch is not None:
        _watch.words = words


def promised() -> str:
    """What is safe, and how to go on, as it was promised; empty if nothing was."""
    return "" if _watch is None else _watch.words()
