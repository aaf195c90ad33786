"""What attackers get against what benign clients lose: a chart of defenders, for pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from arena.league.rates import Rate
from arena.report.strokes import COLOURS
from arena.report.words import percent, span

WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 56, 330, 12, 186
SHAPES = ("circle", "square", "diamond", "triangle")
"""Of marks; with the colours of the page they tell 28 defenders apart."""
_TEXT = "fill:var(--soft);font-size:10.5px"
_GRID = "stroke:var(--line);stroke-width:.8"
_AXES = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Where the axis of benign losses may end."""


@dataclass(frozen=True)
class Point:
    """A defender: the share of benign queries that is lost, and of the images that attackers get."""

    label: str
    benign: Rate
    taken: Rate


def best(points: Sequence[Point]) -> list[Point]:
    """Those that no other is better than, in one respect or both, and worse in none, by their figures alone;
    fewest benign losses first."""
    kept = [
        p
        for p in points
        if not any(
            q.benign.value <= p.benign.value
            and q.taken.value <= p.taken.value
            and (q.benign.value, q.taken.value) != (p.benign.value, p.taken.value)
            for q in points
        )
    ]
    return sorted(kept, key=lambda p: (p.benign.value, -p.taken.value))


def pareto_chart(points: Sequence[Point]) -> Markup:
    """A mark for each defender with its 95 % intervals, those that no other is better than joined. The
    marks are named in `legend`, not in the drawing, where names would lie over each other.
    """
    end = axis_end(points)
    front = " ".join(f"{x(p.benign.value, end):.1f},{y(p.taken.value):.1f}" for p in best(points))
    drawn = [_frame(end)]
    drawn.append(
        f'<polyline points="{front}" style="fill:none;stroke:var(--soft);stroke-width:1.2" '
        'stroke-dasharray="4 3"/>'
    )
    drawn += [_whiskers(p, number, end) for number, p in enumerate(points)]
    drawn += [
        _mark(number, x(p.benign.value, end), y(p.taken.value), _in_words(p))
        for number, p in enumerate(points)
    ]
    return Markup(
        f'<svg class="pareto" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(drawn)}</svg>'
    )


def legend(points: Sequence[Point]) -> list[tuple[str, Markup]]:
    """Each defender and its mark."""
    return [
        (p.label, Markup(f'<svg viewBox="0 0 12 12" aria-hidden="true">{_mark(number, 6, 6, "")}</svg>'))
        for number, p in enumerate(points)
    ]


def described(points: Sequence[Point]) -> str:
    """The chart in words."""
    front = [p.label for p in best(points)]
    return f"{'; '.join(map(_in_words, points))}. Best in one respect or both: {', '.join(front)}."


def axis_end(points: Sequence[Point]) -> float:
    """Where the axis of benign losses ends: the first of some round shares that no interval goes beyond."""
    most = max((p.benign.high for p in points if not math.isnan(p.benign.high)), default=1.0)
    return next((end for end in _AXES if most <= end), 1.0)


def x(share: float, end: float) -> float:
    """Where a share of benign queries lies."""
    return LEFT + (RIGHT - LEFT) * min(share, end) / end


def y(share: float) -> float:
    """Where a share of the images lies."""
    return BOTTOM - (BOTTOM - TOP) * share


def _in_words(p: Point) -> str:
    return (
        f"{p.label}: benign clients lose {percent(p.benign.value)} % {span(p.benign, 1)}, attackers get "
        f"{percent(p.taken.value)} % {span(p.taken, 1)}"
    )


def _frame(end: float) -> str:
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        at, over = y(share), x(share * end, end)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{at:g}" y2="{at:g}" style="{_GRID}"/>')
        parts.append(f'<line x1="{over:g}" x2="{over:g}" y1="{TOP}" y2="{BOTTOM}" style="{_GRID}"/>')
        parts.append(
            f'<text x="{LEFT - 5}" y="{at + 3.5:g}" text-anchor="end" style="{_TEXT}">'
            f"{100 * share:g} %</text>"
        )
        anchor = "end" if share == 1 else "middle"
        parts.append(
            f'<text x="{over:g}" y="{BOTTOM + 15}" text-anchor="{anchor}" style="{_TEXT}">'
            f"{100 * share * end:g} %</text>"
        )
    middle = (LEFT + RIGHT) / 2
    parts.append(
        f'<text x="{middle:g}" y="{BOTTOM + 33}" text-anchor="middle" style="{_TEXT}">'
        "benign queries lost (left is better)</text>"
    )
    across = (TOP + BOTTOM) / 2
    parts.append(
        f'<text x="12" y="{across:g}" transform="rotate(-90 12 {across:g})" text-anchor="middle" '
        f'style="{_TEXT}">lost to attackers</text>'
    )
    return "".join(parts)


def _whiskers(p: Point, number: int, end: float) -> str:
    style = f"stroke:var(--c{number % COLOURS});stroke-width:1.3;opacity:.6"
    at, over = y(p.taken.value), x(p.benign.value, end)
    left, right = x(p.benign.low, end), x(p.benign.high, end)
    return (
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}" style="{style}"/>'
        f'<line x1="{over:.1f}" x2="{over:.1f}" y1="{y(p.taken.low):.1f}" y2="{y(p.taken.high):.1f}" '
        f'style="{style}"/>'
    )


def _mark(number: int, at: float, over: float, title: str) -> str:
    shape = SHAPES[number // COLOURS % len(SHAPES)]
    told = f"<title>{escape(title)}</title>" if title else ""
    style = f"fill:var(--c{number % COLOURS});stroke:var(--card);stroke-width:1"
    if shape == "circle":
        return f'<circle cx="{at:.1f}" cy="{over:.1f}" r="5" style="{style}">{told}</circle>'
    corners = {
        "square": ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)),
        "diamond": ((0, -5.8), (5.8, 0), (0, 5.8), (-5.8, 0)),
        "triangle": ((0, -5.5), (5.5, 4.5), (-5.5, 4.5)),
    }[shape]
    path = " ".join(f"{at + dx:.1f},{over + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{path}" style="{style}">{told}</polygon>'
