"""The small drawings of a board's page, as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from arena.league.rates import Rate
from arena.report.strokes import COLOURS, DASHES, LONG

Points = Sequence[tuple[int, float]]
"""(query count, accuracy left), ascending."""

WIDTH, HEIGHT = 300, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 292, 8, 148
_GRID = "stroke:var(--line);stroke-width:.7"
_TEXT = "fill:var(--soft);font-size:9.5px;text-anchor:end"
"""Rules of the page do not reach into what is drawn by reference."""
BAR = 120
"""Width of a whisker's or bar's drawing."""


def axes() -> Markup:
    """What all curves of a page share, which they use by its id: a frame with lines at quarters."""
    lines = "".join(
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{_y(share):g}" y2="{_y(share):g}" style="{_GRID}"/>'
        f'<text x="{_LEFT - 4}" y="{_y(share) + 3:g}" style="{_TEXT}">{100 * share:.0f} %</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return Markup(
        '<svg class="shared" aria-hidden="true">'
        f'<symbol id="axes" viewBox="0 0 {WIDTH} {HEIGHT}">{lines}</symbol></svg>'
    )


def curves(lines: Sequence[tuple[int, Points]], budget: int) -> Markup:
    """Accuracy left against queries, a line each, at the reported counts, joined; past `LONG` queries on a
    logarithmic axis.

    Args:
        lines: the number of its colour and dashes, and its points.
        budget: where the axis ends.
    """
    drawn = "".join(_line(number, points, budget) for number, points in lines if points)
    return Markup(
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<use href="#axes" width="{WIDTH}" height="{HEIGHT}"/>{drawn}'
        f'<text x="{_LEFT}" y="163">{1 if budget > LONG else 0}</text>'
        f'<text x="{(_LEFT + _RIGHT) / 2:g}" y="163" text-anchor="middle">queries</text>'
        f'<text x="{_RIGHT}" y="163" text-anchor="end">{budget:,}</text></svg>'
    )


def whisker(rate: Rate, low: float = 0.0, high: float = 1.0) -> Markup:
    """A dot with its interval between two ends of an axis."""
    if math.isnan(rate.value) or high <= low:
        return Markup("")
    a, x, b = (
        BAR * min(1.0, max(0.0, (end - low) / (high - low))) for end in (rate.low, rate.value, rate.high)
    )
    return Markup(
        f'<svg class="whisker" viewBox="-4 0 {BAR + 8} 14" aria-hidden="true">'
        f'<line class="base" x1="0" x2="{BAR}" y1="7" y2="7"/>'
        f'<line x1="{a:.1f}" x2="{b:.1f}" y1="7" y2="7"/><circle cx="{x:.1f}" cy="7" r="3.5"/></svg>'
    )


def bar(share: float, support: float) -> Markup:
    """A share as a bar; below it, thin, how often it is in the support."""
    return Markup(
        f'<svg class="bar" viewBox="0 0 {BAR} 16" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="base" width="{BAR}" height="11"/><rect width="{BAR * share:.1f}" height="11"/>'
        f'<rect class="support" y="12.5" width="{BAR * support:.1f}" height="3"/></svg>'
    )


def dashes(number: int) -> str:
    """The dashes of a line, as SVG writes them; "" for a solid one."""
    dash = DASHES[number // COLOURS % len(DASHES)]
    return "" if isinstance(dash, str) else " ".join(f"{part:g}" for part in dash[1])


def _line(number: int, points: Points, budget: int) -> str:
    text = " ".join(f"{_x(at, budget):.1f},{_y(left):.1f}" for at, left in points if not math.isnan(left))
    dash = f' stroke-dasharray="{dashes(number)}"' if dashes(number) else ""
    return f'<polyline style="stroke:var(--c{number % COLOURS})"{dash} points="{text}"/>'


def _x(at: int, budget: int) -> float:
    share = math.log(max(at, 1)) / math.log(budget) if budget > LONG else at / budget
    return _LEFT + (_RIGHT - _LEFT) * min(1.0, share)


def _y(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * share
