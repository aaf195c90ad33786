"""Curves along clean images: the right points, the page's words, and files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arena.evaluation.reliability import Reliability
from arena.report.html import render
from arena.report.reliability_charts import (
    DEFENDED,
    UNDEFENDED,
    draw_reliability,
    in_words,
    reliability_curves,
)

SURE = tuple(np.linspace(0.1, 0.9, 20).tolist())
BINS = Reliability(SURE, (None, *(0.5,) * 19), (*(0.0,) * 10, *(1.0,) * 10))


def lines(svg: str, colour: int) -> list[np.ndarray]:
    """The lines of a colour, in the drawing's coordinates."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*fill: none; stroke[^"]*var\(--c{colour}\)', svg)
    return [np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", line), np.float64) for line in found]


def test_probabilities_and_accuracy_lie_on_one_scale() -> None:
    svg = reliability_curves(BINS, "a")
    ET.fromstring(svg)
    (sure,) = lines(svg, UNDEFENDED)
    assert len(sure) in (2, 20), "a straight line may be drawn by its ends"
    accuracy, told = sorted(lines(svg, DEFENDED), key=lambda line: -np.ptp(line[:, 1]))
    assert np.ptp(told[:, 1]) == 0
    scale = (sure[0, 1] - sure[-1, 1]) / 0.8
    low, high = accuracy[0, 1], accuracy[-1, 1]
    assert low - high == pytest.approx(scale, rel=1e-3), "accuracy goes from none to all"
    assert told[0, 1] == pytest.approx((low + high) / 2, abs=0.02)
    assert told[0, 0] > accuracy[0, 0], "the first bin has no probability"


def test_words_tell_tenths() -> None:
    said = in_words(BINS)
    assert said.endswith("accuracy 0.0, 0.0, 0.0, 0.0, 0.0, 100.0, 100.0, 100.0, 100.0, 100.0 %")
    assert "defended probability 50.0, 50.0," in said and "undefended probability 12.1," in said
    assert "none, none" in in_words(Reliability((0.5,) * 2, (None,) * 2, (0.0,) * 2))


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_has_a_chart_for_each(kind: str, tmp_path: Path) -> None:
    to = tmp_path / f"bins.{kind}"
    draw_reliability([("none", BINS), ("aaa $x$", BINS), ("snd", BINS), ("rnd", BINS)], to)
    if kind == "svg":
        text = to.read_text()
        ET.fromstring(text)
        assert all(f">{title}<" in text for title in ("none", "aaa $x$", "snd", "rnd"))
        assert text.count("stroke: #e0e0e0") >= 4 * 2, "a faint grid in each"
        names = ("accuracy", "undefended probability", "defended probability")
        assert all(text.count(f">{name}<") == 1 for name in names), "one legend"
        again = tmp_path / "again.svg"
        draw_reliability([("none", BINS), ("aaa $x$", BINS), ("snd", BINS), ("rnd", BINS)], again)
        assert again.read_text() == text
    elif kind == "png":
        width, height = Image.open(to).size
        assert width > height, "three abreast, in two rows"
    else:
        assert to.read_bytes().startswith(b"%PDF")


def test_the_page_draws_those_of_which_the_log_has_bins(hand: Any, game: Callable[..., Any]) -> None:
    run = hand.run()
    for number, (defender, bins) in enumerate({"none": BINS, "snd": None, "rnd": BINS}.items()):
        match = hand.match(run, game(0), number=number, defender=defender)
        hand.log.record_utility(match, replace(hand.utility(), reliability=bins))
    text = render(hand.log, run)
    told = re.findall(r'aria-label="Clean images answered by (\w+)\. ([^"]*)\."', text)
    assert told == [("none", in_words(BINS)), ("rnd", in_words(BINS))]
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_older_logs_have_no_such_charts(hand: Any, game: Callable[..., Any]) -> None:
    run = hand.run()
    hand.log.record_utility(hand.match(run, game(0)), hand.utility())
    assert "along the clean images" not in render(hand.log, run)
