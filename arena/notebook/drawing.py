"""Curves of matches, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from arena.messages import near
from arena.notebook.words import both_ends
from arena.records.match_record import MatchRecord
from arena.report.words import NORMS

What = Literal["accuracy", "distance"]


def new_axes(count: int = 1) -> list[Axes]:
    """Empty axes side by side in a new figure, which notebooks show."""
    from matplotlib import pyplot  # only here: it chooses a window system

    figure, axes = pyplot.subplots(
        1, count, figsize=(max(6.0, 4.2 * count), 4.0), sharey=True, squeeze=False, layout="constrained"
    )
    del figure
    return list(axes[0])


def draw(
    records: Mapping[str, MatchRecord], what: str | None = None, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw matches against one defender, one line each, by its label.

    Lines are by the headline verdict at the reported query counts, with 95 % intervals; where that is the
    vote, `answered` is a thin line beside it. Under objective `first` with answers that are no facts both are
    drawn alike, since neither ranks attackers.

    Args:
        what: "accuracy": the accuracy left; "distance": the median distance; None: the distance under
            objective `minimum`, else the accuracy.

    Raises:
        ValueError: if `what` is none of these.
    """
    first = next(iter(records.values()))
    chosen = what or ("distance" if first.threat.objective == "minimum" else "accuracy")
    if chosen not in ("accuracy", "distance"):
        raise ValueError(f'there is no plot "{what}"; {near(str(what), ("accuracy", "distance"))}')
    axes = ax or new_axes()[0]
    for place, (label, record) in enumerate(records.items()):
        colour = f"C{place}"
        if record.tells_nothing:
            axes.plot([], [], color=colour, label=f"{label}: every game failed")
        elif chosen == "distance":
            _distance(axes, record, colour, label)
        else:
            _accuracy(axes, record, colour, label)
    axes.set_xlabel("queries")
    axes.set_title(title, fontsize="medium")
    if chosen == "accuracy":
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.set_ylabel("accuracy left")
    else:
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"median {NORMS[first.threat.norm]} distance")
    axes.label_outer()  # charts side by side share their scale
    axes.legend(fontsize="small")
    return axes


def _accuracy(axes: Axes, record: MatchRecord, colour: str, label: str) -> None:
    """The accuracy left by the headline with its intervals, and `answered` beside it."""
    counts = sorted(record.marks)
    found = np.array([record.accuracy_interval(at=at) for at in counts])
    axes.plot(*record.curve(), color=colour, linewidth=1.8, label=f"{label}, {record.headline}")
    _bars(axes, np.array(counts), found, colour)
    if record.headline != "answered":
        width = 1.8 if both_ends(record) else 0.8
        lucky = record.curve("answered")
        axes.plot(*lucky, color=colour, linewidth=width, linestyle=":", label=f"{label}, answered")


def _distance(axes: Axes, record: MatchRecord, colour: str, label: str) -> None:
    counts = [at for at in sorted(record.marks) if at]
    found = np.array([record.median_distance(at=at) for at in counts]).reshape(-1, 3)
    finite = np.isfinite(found[:, 0])
    queries = np.array(counts)[finite]
    axes.plot(queries, found[finite, 0], color=colour, linewidth=1.8, label=label)
    _bars(axes, queries, found[finite], colour)


def _bars(axes: Axes, queries: Any, found: Any, colour: str) -> None:
    """Intervals [m,3] at query counts [m]; no bar where an end is infinite."""
    value, low, high = np.where(np.isfinite(found), found, np.nan).T
    ends = np.array([value - low, high - value]).clip(min=0)
    axes.errorbar(queries, value, ends, color=colour, fmt="o", markersize=4, capsize=3, linewidth=1.2)
