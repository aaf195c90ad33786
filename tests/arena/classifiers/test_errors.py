from __future__ import annotations

import pickle

from arena.classifiers import ClassifierError
from arena.messages import first_line, in_short


def test_what_strangers_wrote_stays_in_the_line() -> None:
    assert str(ClassifierError("found a\nb\x1b[31m\rc\u2028d")) == "found a b [31m c d"
    assert len(str(ClassifierError("x" * 10**6))) == 2005


def test_it_crosses_processes() -> None:
    assert str(pickle.loads(pickle.dumps(ClassifierError("found 3")))) == "found 3"


def test_first_line() -> None:
    assert first_line(ValueError("\n  no \n way")) == "no"
    assert first_line(KeyError()) == "KeyError"


class Silent(Exception):
    def __str__(self) -> str:
        raise SystemExit


def test_an_exception_in_short() -> None:
    assert in_short(ValueError("no \x1b[2J\nway")) == "ValueError: no  [2J"
    assert in_short(RuntimeError()) == "RuntimeError"
    assert in_short(Silent()) == "Silent"
