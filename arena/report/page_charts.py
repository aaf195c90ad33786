"""The charts of a report's page, each with what it shows in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from arena.report import margins, words
from arena.report.charts import curves, exact
from arena.report.distance_charts import distance_curves, radius_curves, success_curves
from arena.report.distances import Distances
from arena.report.groups import Group, Side
from arena.report.reliability_charts import in_words, reliability_curves
from arena.report.strokes import COLOURS, DASHES
from arena.report.summary import Row

MOST_COUNTS = 6
"""Of more reported query counts success against the radius is drawn at so many, evenly."""


@dataclass(frozen=True)
class Chart:
    """The curves of a defender.

    Attributes:
        svg: the drawing; description: the same in words.
    """

    title: str
    svg: Markup
    description: str


def accuracy_charts(group: Group, place: int) -> list[Chart]:
    """One chart per defender, one line per attacker."""
    charts = []
    for d, side in enumerate(group.defenders):
        cells = [(a, group.cell(a, d)) for a in range(len(group.attackers))]
        lines = [(a, row) for a, row in cells if row is not None and row.drawn and not row.hollow]
        if lines:
            svg = Markup(curves(lines, f"g{place}d{d}"))
            title = f"{side.label}, {_drawn(lines[0][1])}"
            charts.append(Chart(title, svg, _accuracy_in_words(group, side, lines)))
    return charts


def lines_in_words(group: Group) -> str:
    parts = ["after every query"] if any(exact(row) for row in group.rows) else []
    if not all(exact(row) for row in group.rows):
        parts.append("○: at the reported counts, joined")
    if any(row.two_ends for row in group.rows):
        parts.append("dotted: by answered")
    return "; ".join(parts)


def _drawn(row: Row) -> str:
    """What a chart draws."""
    return "by answered and by vote" if row.both_ends else f"by {row.verdict}"


def _accuracy_in_words(group: Group, defender: Side, lines: Sequence[tuple[int, Row]]) -> str:
    left = "; ".join(
        f"{group.attackers[a].label}: "
        + ", ".join(f"{words.left(row, at)} % at {at}" for at in row.left if at)
        for a, row in lines
    )
    by = "from answered to vote" if lines[0][1].both_ends else f"by {lines[0][1].verdict}"
    return f"Accuracy that {defender.label} has left, {by}, by queries. {left}."


def distance_charts(group: Group, place: int) -> list[Chart]:
    """The charts of distances: for each defender the medians, and success within each radius."""
    charts = []
    norm = words.NORMS[group.threat.norm]
    for d, side in enumerate(group.defenders):
        found = [(a, group.distances(a, d)) for a in range(len(group.attackers))]
        lines = [(a, own) for a, own in found if own is not None]
        if any(0 < m.value < math.inf for _, own in lines for m in own.median.values()):
            text = _in_words(group, lines, lambda own, at: words.number(own.median[at].value))
            svg = Markup(distance_curves(lines, norm, f"g{place}d{d}m"))
            title = f"{side.label}: median {norm}"
            charts.append(Chart(title, svg, f"Median distance that {side.label} leaves, by queries. {text}."))
        for r, radius in enumerate(lines[0][1].radii if lines else ()):
            if radius < math.inf:
                charts.append(_within(group, side, lines, radius, f"g{place}d{d}r{r}"))
    return charts


def _within(
    group: Group, defender: Side, lines: Sequence[tuple[int, Distances]], radius: float, prefix: str
) -> Chart:
    verdict = next(row for _, side, row in group.pairs if side is defender).match.info.verdict
    svg = Markup(success_curves([(a, own, verdict) for a, own in lines], radius, prefix))
    text = _in_words(
        group, lines, lambda own, at: f"{words.percent(own.within[radius][at][verdict].value)} %"
    )
    of = f"{words.NORMS[group.threat.norm]} ≤ {words.number(radius)}"
    return Chart(
        f"{defender.label}: {of}, by {verdict}",
        svg,
        f"Success against {defender.label} within {of} by {verdict}, by queries. {text}.",
    )


def _in_words(
    group: Group, lines: Sequence[tuple[int, Distances]], value: Callable[[Distances, int], str]
) -> str:
    return "; ".join(
        f"{group.attackers[a].label}: " + ", ".join(f"{value(own, at)} at {at}" for at in own.counts)
        for a, own in lines
    )


def radius_charts(group: Group, place: int) -> tuple[list[str], list[Chart]]:
    """What the lines are, and the charts of success against the radius, one for each of some reported counts;
    with more lines than strokes, for each defender, too."""
    places = [(a, d) for d in range(len(group.defenders)) for a in range(len(group.attackers))]
    found = [(a, d, own) for a, d in places if (own := group.distances(a, d)) is not None and own.along]
    apart = len(found) > COLOURS * len(DASHES)
    names = [side.label for side in group.attackers]
    if not apart:
        names = [f"{group.attackers[a].label} against {group.defenders[d].label}" for a, d, _ in found]
    sets = (
        [[line for line in found if line[1] == d] for d in range(len(group.defenders))] if apart else [found]
    )
    counts = sorted({at for *_, own in found for at in own.counts})
    kept = np.unique(np.linspace(0, len(counts) - 1, min(MOST_COUNTS, len(counts))).round().astype(int))
    norm, charts = words.NORMS[group.threat.norm], []
    for at in [counts[i] for i in kept.tolist()]:
        for number, own_set in enumerate(sets):
            numbered = [(a if apart else n, own) for n, (a, _, own) in enumerate(own_set) if at in own.counts]
            if not numbered:
                continue
            title = f"{at:,} queries" + f", {group.defenders[own_set[0][1]].label}" * apart
            lines = [(n, own, own.verdict) for n, own in numbered]
            svg = Markup(radius_curves(lines, at, norm, f"g{place}a{at}s{number}"))
            said = "; ".join(
                f"{names[n]}, by {own.verdict}: "
                + ", ".join(
                    f"{words.percent(own.within[r][at][own.verdict].value)} % within {words.number(r)}"
                    for r in own.along
                )
                for n, own in numbered
            )
            charts.append(Chart(title, svg, f"Success against the {norm} radius at {title}. {said}."))
    return names, charts


def margin_charts(group: Group, place: int, found: dict[int, list[margins.Course]]) -> list[Chart]:
    """The charts of margins along games, match by match."""
    charts = []
    for attacker, defender, row in group.pairs:
        for course in found.get(row.match.id, ()):
            ended = "won" if course.won else "kept"
            title = f"{attacker.label} against {defender.label}: image {course.image}, {ended}"
            svg = Markup(margins.margin_curves(course, f"g{place}m{row.match.id}i{ended}"))
            charts.append(Chart(title, svg, f"{title}. {margins.in_words(course)}"))
    return charts


def reliability_charts(group: Group, place: int) -> list[Chart]:
    """The charts along clean images, one for each defender of which the log has the bins."""
    utilities = [(d, side, group.utility(d)) for d, side in enumerate(group.defenders)]
    return [
        Chart(
            side.label,
            Markup(reliability_curves(utility.reliability, f"g{place}d{d}b")),
            f"Clean images answered by {side.label}. {in_words(utility.reliability)}.",
        )
        for d, side, utility in utilities
        if utility is not None and utility.reliability is not None
    ]
