from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.league.complete import complete

tables = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]).map(
        lambda cells: np.array(cells).reshape(shape)
    )
)


def brute(there: np.ndarray) -> int:
    """How many agents the best choice keeps."""
    best = 0
    for kept in product((False, True), repeat=sum(there.shape)):
        a, d = np.array(kept[: there.shape[0]]), np.array(kept[there.shape[0] :])
        if a.any() and d.any() and there[a][:, d].all():
            best = max(best, int(a.sum() + d.sum()))
    return best


@given(tables)
@settings(max_examples=60, deadline=None)
def test_the_fewest_agents_are_dropped(there: np.ndarray) -> None:
    a, d = complete(there)
    assert there[a][:, d].all()
    assert int(a.sum() + d.sum()) == brute(there)


@pytest.mark.parametrize(
    ("missing", "kept"),
    [
        ([], (4, 3)),
        ([(0, 0)], (4, 2)),  # rather a defender than an attacker
        ([(0, 0), (0, 1)], (3, 3)),  # an attacker that fits one defender
        ([(0, 0), (0, 1), (1, 0), (1, 1)], (2, 3)),  # one defender against four attackers is no game
        ([(0, 0), (1, 0), (2, 0)], (4, 2)),
    ],
)
def test_examples(missing: list[tuple[int, int]], kept: tuple[int, int]) -> None:
    there = np.ones((4, 3), np.bool_)
    for pair in missing:
        there[pair] = False
    a, d = complete(there)
    assert (a.sum(), d.sum()) == kept


def test_of_no_pairs_nobody_is_kept() -> None:
    a, d = complete(np.zeros((2, 3), np.bool_))
    assert not a.any() and not d.any()
