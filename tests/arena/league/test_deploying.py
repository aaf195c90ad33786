from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from arena.evaluation.clean_utility import Utility
from arena.league import deploying
from arena.league.board import Equilibrium
from arena.league.caps import Limits
from arena.league.cells import Source
from arena.league.deploying import deployed
from arena.league.equilibrium import equilibrium
from arena.league.matrices import matrices
from arena.league.standing import rankable, withheld
from tests.arena.league.made import match, utility

N = 40
HALF = np.arange(N) % 2
UTILITIES = {"x": utility(0.95, 1.0, seconds_1=1e-3), "y": utility(0.85, cost_1=3.0, seconds_1=3e-3)}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "equilibrium", partial(equilibrium, resamples=3))


def of(
    *sources: Source, limits: Limits | None = None, utilities: dict[str, Utility] | None = None
) -> tuple[Equilibrium | None, dict[str, str]]:
    (matrix,) = matrices(list(sources), counts=[100])
    why = {pair: withheld(cell, []) for pair, cell in matrix.cells.items()}
    unsaid: dict[str, str] = {}
    found = deployed(matrix, rankable(matrix, why), why, utilities or {}, limits or Limits(), unsaid)
    return found, unsaid


def pennies() -> list[Source]:
    return [match(a, d, np.full(N, (a == "a") == (d == "x")) * 1.0) for a in "ab" for d in "xy"]


def test_prices_of_a_mixture_are_linear() -> None:
    found, _ = of(*pennies(), utilities=UTILITIES)
    assert found is not None and found.caps == {"accuracy": None, "delay": None}
    assert found.prices == pytest.approx({"accuracy": 5, "delay": 2})


@pytest.mark.parametrize(("limits", "most"), [(Limits(accuracy=2), 0.2), (Limits(delay=1.5), 0.25)])
def test_a_cap_limits_the_dear_member(limits: Limits, most: float) -> None:
    found, _ = of(*pennies(), limits=limits, utilities=UTILITIES)
    assert found is not None
    assert {member.agent: member.share for member in found.defenders}["y"] == pytest.approx(most)
    assert found.value.value == pytest.approx(most), "the attacker plays against x"


def test_who_was_not_measured_cannot_keep_a_cap() -> None:
    found, _ = of(*pennies(), limits=Limits(delay=5), utilities={"x": UTILITIES["x"]})
    assert found is not None and [member.agent for member in found.defenders] == ["x"]
    assert found.left_out == {"y": "there is a cap on its delay, which was not measured"}


def test_caps_that_nobody_keeps_are_told() -> None:
    found, unsaid = of(*pennies(), limits=Limits(delay=0.5), utilities=UTILITIES)
    assert found is None and unsaid == {"equilibrium": "no mixture of the defenders keeps to the caps"}


def test_agents_without_all_cells_are_left_out_and_named() -> None:
    adaptive = match("adaptive", "x", HALF)
    failed = match("c", "y", np.zeros(N), reason=["error"] * N)
    others = [match(attacker, "z", HALF) for attacker in "ab"]
    found, _ = of(*pennies(), adaptive, failed, match("c", "x", HALF), *others)
    assert found is not None
    assert found.left_out == {
        "adaptive": "with y: they did not meet at this query count",
        "c": "with y: every game failed, so that what is left says nothing of the defense",
    }


def test_without_any_cell_there_is_no_game() -> None:
    found, unsaid = of(match("c", "y", np.zeros(N), reason=["error"] * N))
    assert found is None and unsaid == {"equilibrium": "no pair of agents may be ranked"}
