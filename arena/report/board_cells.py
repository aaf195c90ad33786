"""The cells of a board's matrix as a page shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from arena.evaluation.clean_utility import Utility
from arena.league.board import CellFigures, MatrixBoard
from arena.league.prices import accuracy_lost, benign_lost
from arena.league.rates import Median, Rate
from arena.report import words
from arena.report.board_drawings import curves
from arena.report.board_figures import beside, hollow, interval, left, nearest, place, rated, short, weak
from arena.report.board_notes import Note, Notes, marks, sentence, told
from arena.report.columns import NOTHING
from arena.report.words import number, percent, queries
from arena.statistics import wilson


@dataclass(frozen=True)
class Shown:
    """A cell of the matrix.

    Attributes:
        kind: its classes; share: how much is left, from 0 to 1, for its colour, None for none.
        title: the same in words; sort: what a column is sorted by, NaN for nothing.
        card: the id of what tells more; "" without a cell.
        notes: what was found of it.
    """

    content: Markup
    kind: str
    title: str
    share: float | None
    sort: float
    card: str
    notes: Sequence[Note]


@dataclass(frozen=True)
class Card:
    """What a cell tells when it is asked.

    Attributes:
        verdicts: by verdict, the headline first: its name, what is left, and success.
        lines: other figures by name.
        remarks: why it has no rank, conflicts, and findings, in sentences.
        curve: accuracy against queries; empty where there is none.
    """

    name: str
    title: str
    verdicts: list[tuple[str, str, str]]
    lines: list[tuple[str, str]]
    remarks: list[str]
    curve: Markup


def shown(matrix: MatrixBoard, attacker: str, defender: str, notes: Notes, worst: bool, card: str) -> Shown:
    """A cell as the matrix shows it; `worst`: its attacker is the strongest of the defender's."""
    who = f"{attacker} against {defender}"
    cell = matrix.cells.get((attacker, defender))
    if cell is None:
        return Shown(Markup(NOTHING), "none", f"{who}: not played at this count", None, math.nan, "", ())
    found = notes.at(attacker, defender)
    distances = nearest(matrix)
    kinds = ["cell", *["weak"] * weak(cell), *["ends"] * cell.two_ends, *["withheld"] * bool(cell.withheld)]
    kinds += ["worst"] * worst
    said = "; ".join([_in_words(cell, distances), *(finding.evidence for _, finding in found)])
    return Shown(
        _content(cell, distances),
        " ".join(kinds),
        f"{who}: {said}",
        None if weak(cell) or cell.two_ends else _share(matrix, cell),
        _sort(cell, distances),
        card,
        marks(found),
    )


def card(matrix: MatrixBoard, cell: CellFigures, notes: Notes, name: str) -> Card:
    """All figures of a cell."""
    order = sorted(cell.left, key=lambda verdict: verdict != cell.verdict)
    remarks = [f"No rank: {sentence(cell.withheld)}"] if cell.withheld else []
    remarks += [sentence(text) for text in cell.conflicts]
    for note, finding in notes.of_cell(cell.attacker, cell.defender):
        remarks.append(f"{note.indicator}: {told(finding)} {sentence(finding.advice)}".strip())
    curve = curves([(0, cell.curve)], matrix.at) if len(cell.curve) > 1 else Markup("")
    return Card(
        name,
        f"{cell.attacker} against {cell.defender}",
        [(v, rated(cell.left[v]), rated(cell.success[v]) if v in cell.success else NOTHING) for v in order],
        _lines(matrix, cell),
        remarks,
        curve,
    )


def _lines(matrix: MatrixBoard, cell: CellFigures) -> list[tuple[str, str]]:
    lines = [
        ("games", f"{cell.games:,} of {cell.images:,} images, {cell.played:,} played"),
        ("failed games", str(cell.failed) if cell.failed else ""),
        ("queries a game: mean", _median(cell.queries_mean)),
        ("queries a game: median", _median(cell.queries_median)),
        ("first hit: median query", _median(cell.hits_median)),
        ("insider evaluations a game", queries(cell.insider) if cell.insider else ""),
        ("queries refused", _share_of(cell.refused)),
        ("queries flagged", _share_of(cell.flagged)),
    ]
    if cell.distance is not None:
        norm = words.NORMS[matrix.threat.norm]
        distance = f"{number(cell.distance.value)} {words.between(cell.distance)}"
        lines.insert(1, (f"median {norm}, by {cell.verdict}", distance))
    for source in cell.facts:
        lines.append(
            ("from", f"{source.get('log', '')}, run {source.get('run', '')}, match {source.get('match', '')}")
        )
    return [line for line in lines if line[1]]


def prices(matrix: MatrixBoard) -> list[tuple[str, list[Markup]]]:
    """What stands below the matrix, a line each: the worst case and rank of each defender, and what it costs
    honest users (docs/design.md, D13)."""
    worst = {own.defender: own.left for own in matrix.worst}
    ranks = {own.agent: place(own) for own in matrix.defender_ranks}
    bare = next((u for u in matrix.utilities.values() if u.agreement == 1), None)
    lines: list[tuple[str, list[Markup]]] = []

    def line(head: str, cells: Sequence[Markup]) -> None:
        if any(cell != NOTHING for cell in cells):
            lines.append((head, list(cells)))

    def by(value: Callable[[Utility], Markup]) -> list[Markup]:
        known = [matrix.utilities.get(defender) for defender in matrix.defenders]
        return [Markup(NOTHING) if utility is None else value(utility) for utility in known]

    line("worst case", [_rate(worst.get(defender)) for defender in matrix.defenders])
    line("rank", [Markup("<b>{}</b>").format(ranks.get(d, NOTHING)) for d in matrix.defenders if ranks] or [])
    line("clean accuracy", by(lambda u: _rate(words.accuracy(u))))
    if bare is not None:
        line("points lost of it", by(lambda u: _rate(None if u is bare else accuracy_lost(u, bare))))
    line(
        "delay at 1 row", by(lambda u: Markup("{}").format(words.cost(u.cost_1, u.cost_1_low, u.cost_1_high)))
    )
    line(
        "delay at a batch",
        by(lambda u: Markup("{}").format(words.cost(u.cost_batch, u.cost_batch_low, u.cost_batch_high))),
    )
    line("benign queries lost", [_rate(benign_lost(matrix.benign.get(d, ()))) for d in matrix.defenders])
    for head, name in (
        ("clean images refused", "refused"),
        ("clean images declined", "declined"),
        ("clean images flagged", "flagged"),
    ):
        if any(getattr(u, name) > 0 for u in matrix.utilities.values()):
            line(head, by(partial(_of_images, name)))
    return lines


def _of_images(name: str, utility: Utility) -> Markup:
    """A share of the clean images."""
    share, images = getattr(utility, name), utility.images
    return _rate(Rate(share, *wilson(share * images, images)) if share >= 0 else None)


def _rate(rate: Rate | None) -> Markup:
    if rate is None or math.isnan(rate.value):
        return Markup(NOTHING)
    return Markup("<b>{}</b> <small>{}</small>").format(percent(rate.value), words.span(rate, 1))


def _content(cell: CellFigures, distances: bool) -> Markup:
    if cell.two_ends and not hollow(cell):
        ends = [_end(cell.left[verdict], verdict) for verdict in ("answered", "vote")]
        return Markup("").join(ends)
    most = "≤ " if weak(cell) and not distances and not hollow(cell) else ""
    lucky = beside(cell)
    lines = [
        interval(cell, distances),
        f"answered {lucky}" if lucky and not distances else "",
        f"{cell.failed:,} of {cell.played:,} failed" if cell.failed else "",
        "no rank" if cell.withheld else "",
    ]
    told = Markup("<b>{}</b>").format(most + short(cell, distances))
    return told + Markup("").join(
        Markup('<small class="line">{}</small>').format(text) for text in lines if text
    )


def _end(rate: Rate, verdict: str) -> Markup:
    return Markup('<span class="end"><small>{}</small> <b>{}</b> <small>{}</small></span>').format(
        verdict, percent(rate.value), words.span(rate)
    )


def _in_words(cell: CellFigures, distances: bool) -> str:
    if hollow(cell):
        return f"all {cell.played:,} games failed"
    unit = "" if distances else " %"
    kind = "answered to vote" if cell.two_ends else f"by {cell.verdict}"
    text = f"{short(cell, distances)}{unit} {interval(cell, distances)} left {kind}, {cell.games:,} games"
    return f"{text}; no rank: {cell.withheld}" if cell.withheld else text


def _share(matrix: MatrixBoard, cell: CellFigures) -> float | None:
    if not nearest(matrix) or cell.distance is None:
        return None if math.isnan(left(cell).value) else left(cell).value
    known = [own.distance.value for own in matrix.cells.values() if own.distance is not None]
    finite = [value for value in known if math.isfinite(value)]
    most = max(finite, default=0.0)
    return min(1.0, cell.distance.value / most) if most > 0 and not math.isnan(cell.distance.value) else 1.0


def _sort(cell: CellFigures, distances: bool) -> float:
    if hollow(cell):
        return math.nan
    return cell.distance.value if distances and cell.distance is not None else left(cell).value


def _median(own: Median) -> str:
    if math.isnan(own.value):
        return NOTHING
    return f"{queries(own.value)} [{queries(own.low)}, {queries(own.high)}]"


def _share_of(share: float | None) -> str:
    return "not logged" if share is None else f"{percent(share)} %"
