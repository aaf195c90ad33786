from __future__ import annotations

import numpy as np
import pytest

from arena.league.board import Rank
from arena.league.cells import Source
from arena.league.matrices import matrices
from arena.league.orders import Judged, judged
from arena.league.rates import Median
from arena.league.standing import rankable, withheld
from arena.statistics import holm
from tests.arena.league.made import THREAT, match

N = 80


def of(*sources: Source) -> tuple[Judged, dict[str, str]]:
    (matrix,) = matrices(list(sources), counts=[100])
    why = {pair: withheld(cell, []) for pair, cell in matrix.cells.items()}
    unsaid: dict[str, str] = {}
    return judged(matrix, rankable(matrix, why), why, unsaid, looks=1), unsaid


def first(share: float) -> np.ndarray:
    """Won on the first images."""
    return np.arange(N) < round(share * N)


def named(ranks: list[Rank]) -> list[tuple[str, int, int]]:
    return [(rank.agent, rank.low, rank.high) for rank in ranks]


SHARES = {
    ("a", "x"): 0.1,
    ("a", "y"): 0.9,
    ("a", "z"): 0.85,
    ("b", "x"): 0.5,
    ("b", "y"): 0.2,
    ("b", "z"): 0.2,
}


def all_played() -> list[Source]:
    return [match(a, d, first(share)) for (a, d), share in SHARES.items()]


def test_defenders_stand_by_their_worst_case() -> None:
    """y and z are hardly told apart; x, which loses half of the images to b, keeps most."""
    found, unsaid = of(*all_played())
    assert named(list(found.defender_ranks)) == [("x", 1, 1), ("z", 2, 3), ("y", 2, 3)]
    assert found.defender_ranks[0].figure.value == pytest.approx(0.5)
    assert [w.left.value for w in found.worst] == pytest.approx([0.5, 0.1, 0.15])
    assert not unsaid


def test_attackers_stand_by_the_defender_that_is_hardest_for_them() -> None:
    """A mean over defenders would put a, with .1, .9 and .85, before b, with .5, .2 and .2."""
    found, _ = of(*all_played())
    assert found.attacker_ranks[0].agent == "b"
    assert [rank.figure.value for rank in found.attacker_ranks] == pytest.approx([0.8, 0.9], abs=0.03)
    tests = [test for test in found.tests if {test.one, test.other} == {"a", "b"}]
    assert len(found.tests) == 3 + 1 and len(tests) == 1


def test_the_hardest_defender_is_chosen_on_other_images() -> None:
    """Against 40 defenders that all lose a half at random none is hard; chosen on the images that value, the
    luckiest would keep nearly two thirds."""
    random = np.random.default_rng(0)
    found, _ = of(*(match("a", f"d{d}", random.random(N) < 0.5) for d in range(40)))
    assert found.attacker_ranks[0].figure.value == pytest.approx(0.5, abs=0.1)
    assert max(w.left.value for w in found.worst) > 0.6


def test_who_met_fewer_attackers_is_not_settled_as_better() -> None:
    sources = [s for s in all_played() if (s.match.info.attacker, s.match.info.defender) != ("b", "x")]
    found, _ = of(*sources)
    assert named(list(found.defender_ranks)) == [("x", 1, 3), ("z", 1, 3), ("y", 1, 3)]
    worst = next(w for w in found.worst if w.defender == "x")
    assert worst.left.value == pytest.approx(0.9)
    assert worst.left_out == {"b": "they did not meet at this query count"}


def test_orders_against_single_agents_are_adjusted_together() -> None:
    found, _ = of(*all_played())
    by = {(order.side, order.against): order for order in found.orders}
    assert set(by) == {("defender", "a"), ("defender", "b"), *(("attacker", d) for d in "xyz")}
    assert named(list(by["defender", "b"].ranks))[-1] == ("x", 3, 3)
    assert [r.agent for r in by["attacker", "x"].ranks] == ["b", "a"], "who takes most stands first"
    tests = [test for order in found.orders for test in order.tests]
    assert len(tests) == 2 * 3 + 3 and [t.adjusted for t in tests] == holm([t.p for t in tests])


def test_agents_that_cannot_be_ranked_are_named() -> None:
    failed = match("c", "x", np.zeros(N), reason=["error"] * N)
    found, _ = of(*all_played(), failed)
    assert found.attacker_ranks[-1].agent == "c"
    assert found.attacker_ranks[-1].withheld.startswith("every game failed")
    (order,) = [o for o in found.orders if o.side == "attacker" and o.against == "x"]
    assert order.ranks[-1].withheld.startswith("every game failed")
    found, unsaid = of(failed)
    assert not found.worst and "every game failed" in unsaid["worst"]
    assert set(unsaid) == {"worst", "defender_ranks", "attacker_ranks", "orders"}


def test_under_minimum_ranks_are_of_distances() -> None:
    minimum = THREAT.model_copy(update={"objective": "minimum", "epsilon": np.inf})
    far = np.linspace(1, 2, N)
    found, _ = of(
        match("a", "x", np.ones(N), threat=minimum, linf=far),
        match("a", "y", np.ones(N), threat=minimum, linf=3 * far),
        match("b", "x", first(0.3), threat=minimum, linf=np.where(first(0.3), far / 2, np.inf)),
        match("b", "y", first(0.3), threat=minimum, linf=np.where(first(0.3), far / 2, np.inf)),
    )
    assert named(list(found.defender_ranks)) == [("y", 1, 1), ("x", 2, 2)]
    assert named(list(found.attacker_ranks)) == [("a", 1, 1), ("b", 2, 2)]
    figure = found.attacker_ranks[1].figure
    assert isinstance(figure, Median) and np.isinf(figure.value)
    assert isinstance(found.tests[0].difference, Median)
