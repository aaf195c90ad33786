from __future__ import annotations

import pytest

from bench.lookups import SHAPES, defenders, line, queries


@pytest.mark.parametrize("name", SHAPES)
def test_every_defender_that_suits_the_images_is_timed(name: str) -> None:
    timed = [line(d, name, 60) for d in defenders(60) if d.unsuited(SHAPES[name]) is None]
    expected = ["Blacklight", "StatefulDetection", *(["PIHA"] if name == "cifar" else []), "GWAD"]
    assert [row["defender"] for row in timed] == expected
    assert all(0 <= float(str(row["look_up_ms"])) <= float(str(row["slowest_ms"])) for row in timed)


def test_half_of_the_queries_lie_around_few_points() -> None:
    x = queries(SHAPES["mnist"], 200, 3).flatten(1)
    near = (x[::2, None] - x[None, ::2]).norm(dim=2).fill_diagonal_(9).amin(dim=1) < 1
    far = (x[1::2, None] - x[None, 1::2]).norm(dim=2).fill_diagonal_(9).amin(dim=1) > 5
    assert near.float().mean() > 0.9
    assert far.all()
