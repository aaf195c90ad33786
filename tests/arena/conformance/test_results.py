"""Whatever an agent does while it is checked ends in verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from arena.conformance import run_checks
from arena.players import Defender


@dataclass(frozen=True)
class Leaves(Defender):
    def transform(self, x: Any, rows: Any) -> Any:
        raise SystemExit(0)


@dataclass(frozen=True)
class CannotBeCopied(Defender):
    def __deepcopy__(self, memo: Any) -> Any:
        raise GeneratorExit


@dataclass(frozen=True)
class Undecided(Defender):
    @property
    def random(self) -> bool:
        raise SystemExit(0)


@dataclass(frozen=True)
class Emptied(Defender):
    def watch(self, x: Any, rows: Any, response: Any) -> Any:
        vars(response).clear()
        return response


@pytest.mark.parametrize("defender", [Leaves, CannotBeCopied, Undecided, Emptied])
def test_what_a_defender_raises_is_a_verdict(defender: type[Defender]) -> None:
    failed = [outcome for outcome in run_checks(defender) if outcome.verdict == "failed"]
    assert failed
    assert not any("\n" in outcome.sentence for outcome in failed)


def test_a_users_wish_to_stop_is_none() -> None:
    @dataclass(frozen=True)
    class Interrupts(Defender):
        def transform(self, x: Any, rows: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_checks(Interrupts())
