"""Distance and success against queries as SVG, in the colours of the page that holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from arena.report.charts import chart, grid, stroke
from arena.report.distances import Distances
from arena.rules.outcome import Verdict

BAND = 0.13
"""Opacity of intervals."""
_SPREAD: tuple[tuple[float, tuple[float, ...]], ...] = (
    (3, (1,)),
    (1.5, (1, 3)),
    (0.7, (1, 2, 5)),
    (0.25, (1, 1.5, 2, 3, 4, 5, 7)),
    (0, (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)),
)
"""The multiples of powers of ten with ticks, on an axis of more than so many decades."""


def distance_curves(lines: Sequence[tuple[int, Distances]], norm: str, prefix: str) -> str:
    """The median distance at each reported count, with its interval, both axes logarithmic.

    Infinite medians are not drawn, infinite ends of intervals lie at the edge.

    Args:
        lines: the distances, each with the number of its colour; at least one has a finite median.
        norm: the axis's name.
        prefix: of the element's ids, which must differ from those of the page's other charts.
    """

    def draw(axes: Axes) -> None:
        shown = [m.value for _, own in lines for m in own.median.values() if 0 < m.value < math.inf]
        low, high = min(shown) / 1.3, max(shown) * 1.3
        for number, own in lines:
            table = np.array([(at, m.value, m.low, m.high) for at, m in own.median.items()], np.float64)
            at, value, bottom, top = table[np.isfinite(table[:, 1]) & (table[:, 1] > 0)].T
            _line(axes, at, value, np.maximum(bottom, low), np.minimum(top, high), number)
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        _ticks(axes.yaxis, low, high, "{:g}")
        axes.set_ylabel(f"median {norm}")
        _dress(axes, lines)

    return chart(draw, prefix)


def success_curves(lines: Sequence[tuple[int, Distances, Verdict]], radius: float, prefix: str) -> str:
    """The share of games won within a radius at each reported count, by each line's verdict, with its
    interval; queries on a logarithmic axis. Arguments as in `distance_curves`."""

    def draw(axes: Axes) -> None:
        for number, own, verdict in lines:
            rates = [(at, by[verdict]) for at, by in own.within[radius].items()]
            table = np.array([(at, r.value, r.low, r.high) for at, r in rates], np.float64)
            at, value, bottom, top = table.T
            _line(axes, at, value, bottom, top, number)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.set_ylabel("success")
        _dress(axes, [(number, own) for number, own, _ in lines])

    return chart(draw, prefix)


def radius_curves(lines: Sequence[tuple[int, Distances, Verdict]], at: int, norm: str, prefix: str) -> str:
    """The share of games won within each radius at a reported count, by each line's verdict, with its
    interval (PredCoin, Figures 4 and 12).

    Args:
        lines: distances with the numbers of their colours, which have radii to be drawn along and the count.
        norm: the axis's name.
        prefix: of the element's ids, which must differ from those of the page's other charts.
    """

    def draw(axes: Axes) -> None:
        for number, own, verdict in lines:
            rates = [(radius, own.within[radius][at][verdict]) for radius in own.along]
            radius, value, low, high = np.array([(r, s.value, s.low, s.high) for r, s in rates]).T
            _line(axes, radius, value, low, high, number, mark="")
        axes.set_xlim(0, max(own.along[-1] for _, own, _ in lines))
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.set_xlabel(f"{norm} radius")
        axes.set_ylabel("success")
        grid(axes)

    return chart(draw, prefix)


def _line(
    axes: Axes,
    at: np.ndarray,
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    number: int,
    mark: str = "o",
) -> None:
    colour, dash = stroke(number)
    axes.fill_between(at, low, high, color=colour, alpha=BAND, linewidth=0)
    axes.plot(
        at, value, marker=mark, linestyle=dash, color=colour, linewidth=1.6, markersize=3.5, clip_on=False
    )


def _dress(axes: Axes, lines: Sequence[tuple[int, Distances]]) -> None:
    counts = [at for _, own in lines for at in own.counts]
    low, high = min(counts) / 1.1, max(counts) * 1.1
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _ticks(axes.xaxis, low, high, "{:,.0f}")
    axes.set_xlabel("queries")
    grid(axes)


def _ticks(axis: Axis, low: float, high: float, form: str) -> None:
    """Ticks of a logarithmic axis, more of them on a short axis."""
    decades = math.log10(high / low)
    subs = next(multiples for least, multiples in _SPREAD if decades > least)
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: form.format(value)))
    axis.set_minor_formatter(NullFormatter())
