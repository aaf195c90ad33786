"""Which label scores give, and when they give none."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arena.rules.outcome import labels_of

INF, NAN = math.inf, math.nan
SCORE = st.sampled_from([-1.0, 0.0, 0.0, 1.0, 2.5, 3e38, -3e38, INF, -INF, NAN])
ROWS = st.integers(1, 4).flatmap(
    lambda k: st.lists(st.lists(SCORE, min_size=k, max_size=k), min_size=1, max_size=5)
)


def told(row: list[float]) -> int:
    """The rule in plain words: see `labels_of`."""
    nothing = any(map(math.isnan, row)) or not any(map(math.isfinite, row))
    return -1 if nothing or (len(row) > 1 and len(set(row)) == 1) else row.index(max(row))


@given(ROWS)
def test_label_is_the_first_of_the_highest_scores_or_none(rows: list[list[float]]) -> None:
    assert labels_of(torch.tensor(rows)).tolist() == [told(row) for row in rows]


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ([NAN, 5, 0], -1),
        ([INF, INF, INF], -1),
        ([-INF, -INF, -INF], -1),
        ([-INF, INF, -INF], -1),
        ([2, 2, 2], -1),
        ([2, 2], -1),
        ([0, -0.0, 0], -1),
        ([0, 2, 2], 1),
        ([2, 1, 2], 0),
        ([-INF, 1, 2], 2),
        ([1, -INF, 1], 0),
        ([-INF, 1, -INF], 1),
        ([0, INF, 1], 1),
        ([0, INF, INF], 1),
        ([-INF, 0, INF], 2),
        ([-3e38, 3e38, 0], 1),  # their difference overflows
        ([1e-45, 0, 0], 0),
        ([7], 0),
        ([0], 0),
        ([INF], -1),
        ([NAN], -1),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_each_kind_of_row_has_its_label_alone_and_beside_others(
    row: list[float], label: int, beside: bool
) -> None:
    plain = [float(k) for k in range(len(row))]
    scores = torch.tensor([row, plain] if beside else [row], dtype=torch.float32)
    assert labels_of(scores).tolist() == ([label, len(row) - 1] if beside else [label])


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
@pytest.mark.parametrize("transposed", [False, True])
def test_ties_of_many_classes_go_to_the_lowest_index(classes: int, transposed: bool) -> None:
    scores = torch.zeros(classes, 50).T if transposed else torch.zeros(50, classes)
    assert labels_of(scores).tolist() == [-1] * 50
    scores[:, 0] = -1
    assert labels_of(scores).tolist() == [1] * 50
    assert labels_of(scores[:0]).tolist() == []
