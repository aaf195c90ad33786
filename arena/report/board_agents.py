"""What a board's page tells of each agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from arena.league.board import CellFigures, Finding, MatrixBoard, Rank
from arena.league.labels import flat
from arena.league.rates import Rate
from arena.report.board_drawings import curves
from arena.report.board_examples import Example
from arena.report.board_figures import figure, interval, nearest, place, points, short
from arena.report.board_notes import Notes, told
from arena.report.columns import NOTHING
from arena.report.words import percent, queries


@dataclass(frozen=True)
class Agent:
    """An agent's part.

    Attributes:
        figures: by name: rank, what it keeps or leaves, rating.
        heads, rows: a table of its cells, a row an opponent.
        remarks: findings that name it.
        chart: what is left against each opponent, by queries.
        parameters: by name; fitted: what a defender found when it was fitted.
        examples: games.
    """

    name: str
    side: str
    anchor: str
    figures: list[tuple[str, str]]
    heads: list[str]
    rows: list[tuple[str, list[str]]]
    remarks: list[str]
    chart: Markup
    parameters: list[tuple[str, str]]
    fitted: list[tuple[str, str]]
    examples: Sequence[Example]


def agents(matrix: MatrixBoard, notes: Notes, examples: Sequence[Example], prefix: str) -> list[Agent]:
    """The agents of a matrix, attackers first."""
    sides = (("attacker", matrix.attackers), ("defender", matrix.defenders))
    return [
        _agent(matrix, notes, examples, side, name, f"{prefix}{side[0]}{number}")
        for side, names in sides
        for number, name in enumerate(names)
    ]


def _agent(
    matrix: MatrixBoard, notes: Notes, examples: Sequence[Example], side: str, name: str, anchor: str
) -> Agent:
    attacks = side == "attacker"
    cells = [c for (a, d), c in matrix.cells.items() if name == (a if attacks else d)]
    source = next((facts for cell in cells for facts in cell.facts), {})
    table, own = _table(matrix, cells, attacks), [e for e in examples if e.side == side and e.agent == name]
    return Agent(
        name=name,
        side=side,
        anchor=anchor,
        figures=_figures(matrix, side, name),
        heads=table[0],
        rows=table[1],
        remarks=_remarks(notes, name),
        chart=_chart(matrix, cells) if not attacks else Markup(""),
        parameters=_values(source.get(f"{side}_params")),
        fitted=[] if attacks else _values(source.get("fitted")),
        examples=own,
    )


def _remarks(notes: Notes, name: str) -> list[str]:
    """The first finding of each indicator that names an agent, and how many more there are."""
    by: dict[str, list[Finding]] = {}
    for note, finding in notes.of_agent(name):
        by.setdefault(note.indicator, []).append(finding)
    return [
        f"{indicator}: {told(found[0])}" + (f" And {len(found) - 1} more like it." if found[1:] else "")
        for indicator, found in by.items()
    ]


def _figures(matrix: MatrixBoard, side: str, name: str) -> list[tuple[str, str]]:
    ranks = matrix.attacker_ranks if side == "attacker" else matrix.defender_ranks
    rank: Rank | None = next((own for own in ranks if own.agent == name), None)
    rating: Rate | None = next((r.rating for r in matrix.ratings if (r.agent, r.side) == (name, side)), None)
    found = []
    if rank is not None:
        found.append(("rank", place(rank) if not rank.withheld else f"none: {rank.withheld}"))
        found.append(("leaves" if side == "attacker" else "worst case", figure(matrix, rank.figure)))
    if rating is not None:
        found.append(("rating", points(rating)))
    return [line for line in found if line[1] != NOTHING]


def _table(
    matrix: MatrixBoard, cells: Sequence[CellFigures], attacks: bool
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Its cells; columns without news are left out."""
    distances = nearest(matrix)
    columns = [
        ("left", [f"{short(c, distances)} {interval(c, distances)}".strip() for c in cells]),
        ("success", [percent(c.success[c.verdict].value) for c in cells]),
        ("queries a game", [queries(c.queries_mean.value) for c in cells]),
        ("first hit", [queries(c.hits_median.value) for c in cells]),
        ("insider", [queries(c.insider) for c in cells]),
        ("refused, %", [NOTHING if c.refused is None else percent(c.refused) for c in cells]),
        ("flagged, %", [NOTHING if c.flagged is None else percent(c.flagged) for c in cells]),
    ]
    kept = [(head, values) for head, values in columns if set(values) - {NOTHING, "0", "0.0"}]
    rows = [
        (c.defender if attacks else c.attacker, [values[number] for _, values in kept])
        for number, c in enumerate(cells)
    ]
    return [head for head, _ in kept], rows


def _chart(matrix: MatrixBoard, cells: Sequence[CellFigures]) -> Markup:
    """A line an attacker, in its colour."""
    lines = [(matrix.attackers.index(c.attacker), c.curve) for c in cells if len(c.curve) > 1]
    return curves(lines, matrix.at) if lines else Markup("")


def _values(params: object) -> list[tuple[str, str]]:
    """Parameters as text, without the names that are in the titles."""
    own = params.get("defenders", params) if isinstance(params, dict) else {}
    return [(key, text) for key, text in flat(own) if key.rpartition(".")[2] not in ("name", "")]
