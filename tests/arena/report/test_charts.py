"""Curves as SVG: the right steps, and nothing that fixes the page's colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from arena.report.charts import curves
from arena.report.strokes import COLOURS
from arena.report.summary import read_rows


@pytest.fixture
def row(hand, game):
    run = hand.run()
    hits = [game(i, "hit", t, hit_at=t, votes=(0, 1, 1), base=True, l2=1) for i, t in enumerate((2, 2, 7))]
    hand.match(run, *hits, game(8), game(9, "clean", 0, votes=(1, 1, 1)))
    return read_rows(hand.log, run)[0]


def steps(svg: str, colour: int) -> np.ndarray:
    """The longest line of a colour, in the drawing's coordinates."""
    lines = re.findall(rf'<path d="([^"]*)"[^>]*stroke: var\(--c{colour}\)', svg)
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", max(lines, key=len)), np.float64)
    return points[np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))]


def test_a_line_steps_down_at_the_hits(row):
    points = steps(curves([(0, row)], "a"), 0)
    x = (points[:, 0] - points[0, 0]) / (points[-1, 0] - points[0, 0]) * 10
    height = points[0, 1] - points[-1, 1]
    y = 4 / 5 + (points[:, 1] - points[0, 1]) / height * (4 / 5 - 1 / 5)
    np.testing.assert_allclose(x, [0, 2, 2, 7, 7, 10], atol=0.01)
    np.testing.assert_allclose(y, [4 / 5, 4 / 5, 2 / 5, 2 / 5, 1 / 5, 1 / 5], atol=0.01)


def test_it_is_xml_that_takes_its_colours_from_the_page(row):
    svg = curves([(0, row), (3, row)], "g1d2")
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    assert all(e.get("id").startswith("g1d2-") for e in root.iter() if e.get("id"))
    assert {"var(--c0)", "var(--c3)", "var(--ink)", "var(--line)"} <= set(re.findall(r"var\([^)]*\)", svg))
    colours = set(re.findall(r"#[0-9a-f]{6}", svg))
    assert not colours, f"fixed colours {colours}"
    assert "http" not in svg
    assert svg == curves([(0, row), (3, row)], "g1d2"), "the same matches give the same bytes"


def test_more_lines_than_colours_differ_in_their_dashes(row):
    svg = curves([(0, row), (COLOURS, row)], "a")
    assert svg.count("stroke-dasharray") > curves([(0, row), (1, row)], "a").count("stroke-dasharray")


def test_a_match_without_hits_is_a_level_line(hand, game):
    run = hand.run()
    hand.match(run, game(0), game(1))
    points = steps(curves([(0, read_rows(hand.log, run)[0])], "a"), 0)
    assert len(set(points[:, 1])) == 1


def test_a_large_budget_is_drawn_on_a_logarithmic_axis(hand, game, threat):
    run = hand.run()
    hits = [game(i, "hit", t, hit_at=t, votes=(0, 1, 1), l2=1) for i, t in enumerate((1, 10, 100))]
    hand.match(run, *hits, threat=threat.with_budget(10_000))
    points = steps(curves([(0, read_rows(hand.log, run)[0])], "a"), 0)
    x = (points[:, 0] - points[0, 0]) / (points[-1, 0] - points[0, 0]) * 4
    np.testing.assert_allclose(sorted(set(x.round(2))), [0, 1, 2, 4], atol=0.02)
