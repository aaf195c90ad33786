from __future__ import annotations

from bench.tables import between, table


def test_columns_are_aligned_whatever_the_rows_hold() -> None:
    text = table([{"name": "a", "n": 1}, {"name": "longer", "ratio": 2.0 / 3}])
    assert text.splitlines() == ["name    n   ratio", "a       1", "longer     0.6667"]


def test_an_interval_stands_behind_its_figure() -> None:
    assert between(1.0, 0.5, 1.25) == "1.000 [0.500, 1.250]"
