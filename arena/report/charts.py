"""Accuracy-against-queries curves as SVG, in the colours of the page that holds them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from arena.report.strokes import COLOURS, DASHES, LONG
from arena.report.summary import Row
from arena.rules.outcome import Verdict

_INK, _FAINT = "#010203", "#040506"
_STAND_INS = [f"#0a0b{i:02x}" for i in range(COLOURS)]
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "arena",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def curves(lines: Sequence[tuple[int, Row]], prefix: str) -> str:
    """One chart, an SVG element for a page.

    A line is the accuracy left by the match's headline: after each query where that is `answered` and answers
    are facts, else a circle at each reported count, joined. Where `answered` and `vote` are two ends, a thin
    dotted line is the other one.

    Args:
        lines: the matches, each with the number of its colour; at least one of them has games.
        prefix: of the element's ids, which must differ from those of the page's other charts.
    """

    def draw(axes: Axes) -> None:
        for number, row in lines:
            if row.drawn:
                _line(axes, row, number)
        _dress(axes, max(row.budget for _, row in lines))

    return chart(draw, prefix)


def chart(draw: Callable[[Axes], None], prefix: str) -> str:
    """What `draw` draws, as an SVG element for a page; its ids begin with `prefix`."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 2.7), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(text.getvalue(), prefix)


def stroke(number: int) -> tuple[str, Any]:
    """Colour and dashes of a line by its number."""
    return _STAND_INS[number % COLOURS], DASHES[number // COLOURS % len(DASHES)]


def grid(axes: Axes) -> None:
    """Faint lines behind the data."""
    axes.grid(color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def _line(axes: Axes, row: Row, number: int) -> None:
    colour, dash = stroke(number)
    if exact(row):
        curve = row.curve
        start = curve.played / curve.drawn
        x = np.concatenate([[0], curve.turn, [row.budget]])
        y = np.concatenate([[start], curve.accuracy, curve.accuracy[-1:] if len(curve.turn) else [start]])
        x = np.maximum(x, _first(row.budget))
        axes.step(x, y, where="post", color=colour, linestyle=dash, linewidth=1.6)
        return
    at = np.maximum(list(row.left), _first(row.budget))
    if row.two_ends:
        other: Verdict = "answered" if row.verdict == "vote" else "vote"
        less = [by[other].value for by in row.left.values()]
        axes.plot(at, less, color=colour, linestyle=(0, (1, 1.5)), linewidth=1)
    left = [by[row.verdict].value for by in row.left.values()]
    axes.plot(
        at,
        left,
        "o",
        color=colour,
        linestyle=dash,
        linewidth=1.6,
        markersize=4,
        markerfacecolor="none",
        clip_on=False,
    )


def exact(row: Row) -> bool:
    """Whether a curve knows what is left after every query, not at the reported counts alone."""
    return row.facts and row.verdict == "answered"


def _dress(axes: Axes, budget: int) -> None:
    if budget > LONG:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlim(_first(budget), budget)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("queries")
    axes.set_ylabel("accuracy left")
    grid(axes)


def _first(budget: int) -> int:
    """Where the axis of queries begins."""
    return 1 if budget > LONG else 0


def _for_page(svg: str, prefix: str) -> str:
    """The SVG without what only a file needs; colours by the page's variables, ids that begin with the
    prefix."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true" focusable="false">', svg)
    svg = re.sub(r'xlink:href="#', 'href="#', svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace(_INK, "var(--ink)").replace(_FAINT, "var(--line)")
    for number, stand_in in enumerate(_STAND_INS):
        svg = svg.replace(stand_in, f"var(--c{number})")
    return svg
