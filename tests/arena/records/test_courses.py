"""How games went, against the same told query by query."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena.records import courses
from arena.records.courses import Courses
from arena.records.reports import CourseRows, QueryRows
from arena.rules.threat import Threat

THREAT = Threat(epsilon=0.5, budget=20)


def volley(*queries: tuple[int, int, float, float, bool, bool, bool, int]) -> QueryRows:
    """Queries of (game, turn, margin, distance, hit, refused, flagged, image)."""
    game, turn, margin, far, hit, refused, flagged, image = (np.array(c) for c in zip(*queries, strict=True))
    zeros = np.zeros(len(game), np.int64)
    label = np.where(np.isnan(margin), -1, 0)
    floats: list[Any] = [margin.astype(float), far.astype(float) * 2, far.astype(float)]
    return QueryRows(
        "p", game, turn, zeros, label, refused, flagged, *floats, hit, ~hit & False, hit & False, image
    )


def one_by_one(queries: list[Any], game: int) -> list[float]:
    mine = sorted(q for q in queries if q[0] == game)
    alarm = next((q[1] for q in mine if q[5] or q[6]), 0)
    good = [(t, m) for _, t, m, far, _, refused, _, _ in mine if not refused and m == m and far <= 0.5]
    hits = [(t, far) for _, t, _, far, hit, *_ in mine if hit]
    nan = float("nan")
    return [
        sum(q[6] for q in mine),
        alarm,
        len(mine) - len({q[7] for q in mine}),
        mine[0][2] if mine else nan,
        min((m for t, m in good if t <= 18), default=nan),
        min((m for _, m in good), default=nan),
        hits[0][1] if hits else nan,
        min((far for t, far in hits if t <= 18), default=nan),
    ]


def columns(rows: CourseRows) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(column, float) for column in vars(rows).values()])


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 1000]))
def test_sums_are_those_told_query_by_query(seed: int, together: int) -> None:
    rng = np.random.default_rng(seed)
    queries = []
    for game in range(3):
        for turn in range(1, int(rng.integers(0, 21)) + 1):
            margin = float("nan") if rng.random() < 0.1 else float(rng.normal())
            refused = bool(rng.random() < 0.1)
            hit = bool(rng.random() < 0.2) and not refused
            flagged = bool(rng.random() < 0.1)
            queries.append((game, turn, margin, rng.random(), hit, refused, flagged, int(rng.integers(6))))
    rng.shuffle(queries)
    queries.sort(key=lambda q: q[1])
    queries = [(int(g), int(t), m, f, h, r, fl, i) for g, t, m, f, h, r, fl, i in queries]

    told = Courses(THREAT)
    for first in range(0, len(queries), together):
        told.add(volley(*queries[first : first + together]))
        told._sum_up()

    expected = np.array([one_by_one(queries, game) for game in range(4)]).T
    assert np.array_equal(columns(told.close(4)), expected, equal_nan=True)


def test_too_many_queries_leave_duplicates_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courses, "MOST_DIGESTS", 3)
    told = Courses(THREAT)
    for turn in range(1, 5):
        told.add(volley((0, turn, 0.0, 0.1, False, False, True, 7)))

    rows = told.close(1)

    assert np.isnan(rows.duplicates).all()
    assert rows.flagged.tolist() == [4]
