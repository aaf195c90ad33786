"""Probability and accuracy along clean images as SVG and pictures (AAA, Figure 3, left)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from arena.evaluation.reliability import Reliability
from arena.messages import one_line
from arena.report.charts import chart, grid, stroke

UNDEFENDED, DEFENDED = 0, 1
"""The numbers of the lines' colours."""
STILLS = ("png", "svg", "pdf")
ABREAST = 3
"""So many charts are beside each other in a picture, at most."""
_LEGEND: dict[str, Any] = {"fontsize": 8, "frameon": False}
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "arena", "font.size": 9}


def reliability_curves(bins: Reliability, prefix: str) -> str:
    """One defended classifier's chart, an SVG element for a page.

    The solid lines are the probabilities of the true class, the dotted one the accuracy, in the bins of the
    images from the least to the most sure.

    Args:
        prefix: of the element's ids, which must differ from those of the page's other charts.
    """
    return chart(lambda axes: _draw(axes, bins, stroke(UNDEFENDED)[0], stroke(DEFENDED)[0]), prefix)


def draw_reliability(lines: Sequence[tuple[str, Reliability]], to: Path) -> None:
    """Write the charts of defended classifiers, each with its title, as one picture (`STILLS`).

    Raises:
        OSError: if it cannot be written.
    """
    rows, wide = -(-len(lines) // ABREAST), min(ABREAST, len(lines))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.2 * wide, 2.9 * rows), layout="constrained", dpi=120)
        FigureCanvasAgg(figure)
        for place, (title, bins) in enumerate(lines, 1):
            axes = figure.add_subplot(rows, wide, place)
            _draw(axes, bins, "tab:blue", "tab:orange")
            axes.set_title(one_line(title).replace("$", r"\$"), fontsize=9)
            axes.grid(color="0.88", linewidth=0.6)  # a page's style makes the charts' own colour faint
            if place == 1:
                figure.legend(
                    *axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, **_LEGEND
                )
        figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)


def in_words(bins: Reliability) -> str:
    """What a chart shows, by the tenths of its bins."""
    tenths = np.array_split(np.arange(len(bins.accuracy)), min(10, len(bins.accuracy)))
    told = [
        f"{name} " + ", ".join(_percent([values[i] for i in part]) for part in tenths) + " %"
        for name, values in (
            ("undefended probability", bins.undefended),
            ("defended probability", bins.defended),
            ("accuracy", bins.accuracy),
        )
    ]
    return f"In tenths of the images, from the least to the most sure: {'; '.join(told)}"


def _draw(axes: Axes, bins: Reliability, undefended: str, defended: str) -> None:
    count = len(bins.accuracy)
    x = (np.arange(count) + 0.5) / count
    answered = np.array([math.nan if p is None else p for p in bins.defended])
    dotted: Any = (0, (1, 1.2))
    for y, colour, dash, name in (
        (bins.accuracy, defended, dotted, "accuracy"),
        (bins.undefended, undefended, "solid", "undefended probability"),
        (answered, defended, "solid", "defended probability"),
    ):
        mark = "" if count > 1 else "o"
        axes.plot(x, y, marker=mark, color=colour, linestyle=dash, linewidth=1.3, label=name, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("images, from the least sure")
    axes.set_ylabel("true class")
    grid(axes)


def _percent(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * float(np.mean(known)):.1f}" if known else "none"
