"""Signals that ask a process to stop, and what is of the user and what is not."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from arena import interruptions
from arena.interruptions import Interrupted, heeding, noting, of_the_user, raise_pending


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A shell that runs the tests in the background leaves SIGINT ignored, nohup SIGHUP."""
    before = {n: signal.getsignal(n) for n in interruptions.HEEDED}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    """Send this process a signal, and let Python see it."""
    os.kill(os.getpid(), number)
    for _ in range(3):
        pass


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_each_signal_raises_with_its_own_status(number: signal.Signals, status: int) -> None:
    before = signal.getsignal(number)
    with heeding():
        with pytest.raises(Interrupted, match=number.name) as told:
            send(number)
        assert (told.value.signal, told.value.status) == (number, status)
        assert interruptions.caught() == number
    assert signal.getsignal(number) == before and interruptions.caught() is None


def test_what_was_swallowed_is_raised_again() -> None:
    with heeding():
        raise_pending()
        with contextlib.suppress(BaseException):
            send(signal.SIGTERM)
        for _ in range(2):
            with pytest.raises(Interrupted) as told:
                raise_pending()
            assert told.value.status == 143 and of_the_user(told.value)
    raise_pending()


def test_who_wants_to_stop() -> None:
    assert of_the_user(KeyboardInterrupt())
    assert not of_the_user(Interrupted(signal.SIGINT)) and not of_the_user(SystemExit())
    with heeding():
        assert not of_the_user(KeyboardInterrupt()) and not of_the_user(Interrupted(signal.SIGINT))
        with pytest.raises(Interrupted):
            send(signal.SIGINT)
        assert of_the_user(KeyboardInterrupt()) and of_the_user(Interrupted(signal.SIGINT))
        assert not of_the_user(SystemExit()) and not of_the_user(ValueError())


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with heeding():
        send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and interruptions.caught() is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_signal_is_noted_where_work_stops_by_itself() -> None:
    with heeding():
        with noting():
            send(signal.SIGTERM)
            assert interruptions.caught() == signal.SIGTERM
        with pytest.raises(Interrupted):
            raise_pending()
    with noting():
        assert interruptions.caught() is None


def test_within_another_and_in_another_thread_it_does_nothing() -> None:
    def elsewhere() -> None:
        with heeding():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
    with heeding():
        outer = signal.getsignal(signal.SIGTERM)
        with heeding():
            assert signal.getsignal(signal.SIGTERM) == outer
        assert signal.getsignal(signal.SIGTERM) == outer


def test_a_second_signal_ends_the_process_at_once_in_a_sentence(children: Any) -> None:
    code = """
import os, signal
from arena.interruptions import heeding, promise
with heeding():
    promise(lambda: "what was finished is safe")
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        print("never")
"""
    child = children.start(code)
    assert child.wait() == 143
    assert child.errors == "\ninterrupted again, and ended at once: what was finished is safe\n"
    assert child.out.read_text() == ""
