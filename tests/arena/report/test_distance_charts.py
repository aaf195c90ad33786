"""Curves of distance and success: the right points, in the page's colours."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from arena.league.rates import Median, Rate
from arena.report.distance_charts import distance_curves, radius_curves, success_curves
from arena.report.distances import Distances
from arena.rules.outcome import Verdict

COUNTS = (10, 100, 1000)
MEDIANS = (Median(4.0, 2.0, math.inf), Median(2.0, 1.5, 3.0), Median(0.5, 0.25, 1.0))
NEVER = Rate(0.0, 0.0, 0.1)


def of(*medians: Median) -> Distances:
    rates: dict[int, dict[Verdict, Rate]] = {
        at: {"answered": Rate(share, share, share), "vote": NEVER, "base": NEVER}
        for at, share in zip(COUNTS, (0.0, 0.5, 1.0), strict=True)
    }
    by_count = dict(zip(COUNTS, medians, strict=True))
    return Distances(by_count, {1.0: rates}, by_count)


def points(svg: str, colour: int) -> np.ndarray:
    """The line of a colour, in the drawing's coordinates."""
    (line,) = re.findall(rf'<path d="([^"]*)"[^>]*fill: none; stroke: var\(--c{colour}\)', svg)
    return np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", line), np.float64)


def test_distances_lie_on_logarithmic_axes() -> None:
    at = points(distance_curves([(0, of(*MEDIANS))], "l2", "a"), 0)
    step = np.diff(at, axis=0)
    assert step[0, 0] == pytest.approx(step[1, 0], abs=0.01), "10 to 100 is as far as 100 to 1000"
    assert step[1, 1] == pytest.approx(2 * step[0, 1], abs=0.01), "from 2 to 0.5 is twice from 4 to 2"


def test_infinite_medians_are_left_out() -> None:
    none = Median(math.inf, 2.0, math.inf)
    assert len(points(distance_curves([(0, of(none, *MEDIANS[1:]))], "l2", "a"), 0)) == 2


def test_success_lies_between_none_and_all() -> None:
    at = points(success_curves([(2, of(*MEDIANS), "answered")], 1.0, "a"), 2)
    assert at[1, 1] == pytest.approx((at[0, 1] + at[2, 1]) / 2, abs=0.01)
    assert len(set(points(success_curves([(2, of(*MEDIANS), "vote")], 1.0, "a"), 2)[:, 1])) == 1


@pytest.mark.parametrize("one", [False, True])
def test_it_is_xml_that_takes_its_colours_from_the_page(one: bool) -> None:
    own = of(*MEDIANS)
    if one:
        own = Distances({10: MEDIANS[0]}, {1.0: {10: own.within[1.0][10]}}, {10: MEDIANS[0]})
    for svg in (
        distance_curves([(0, own), (3, own)], "l2", "g1"),
        success_curves([(0, own, "vote"), (3, own, "base")], 1.0, "g1"),
    ):
        root = ET.fromstring(svg)
        assert all(e.get("id", "").startswith("g1-") for e in root.iter() if e.get("id"))
        assert {"var(--c0)", "var(--c3)", "var(--ink)"} <= set(re.findall(r"var\([^)]*\)", svg))
        assert not re.findall(r"#[0-9a-f]{6}", svg)


def test_success_is_drawn_against_the_radius_from_none_to_the_largest() -> None:
    shares = np.linspace(0, 1, 10)
    radii = np.linspace(0.2, 2.0, 10).tolist()
    within: dict[float, dict[int, dict[Verdict, Rate]]] = {
        radius: {10: {"answered": Rate(share, share / 2, share), "vote": NEVER, "base": NEVER}}
        for radius, share in zip(radii, shares.tolist(), strict=True)
    }
    within[math.inf] = within[2.0]
    own = Distances({10: MEDIANS[0]}, within, {10: MEDIANS[0]})
    svg = radius_curves([(3, own, "answered"), (4, own, "vote")], 10, "l2", "a")
    x, y = points(svg, 3).T
    assert len(x) == 10 and np.allclose(np.diff(x), x[1] - x[0], atol=0.01), "the axis is linear"
    assert np.allclose(np.diff(y), y[1] - y[0], atol=0.01) and y[1] < y[0], "and so is success here"
    assert len(set(points(svg, 4)[:, 1])) == 1
    assert svg.count("opacity: 0.13") == 2, "an interval each"
    ET.fromstring(svg)
