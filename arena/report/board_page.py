"""A board's page: one HTML file that needs no other file and no network."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from arena.league.board import Board, Equilibrium, MatrixBoard, Order, Rank
from arena.league.rates import Median, Rate
from arena.report import words
from arena.report.benign_section import BenignSection, benign_section
from arena.report.board_agents import Agent, agents
from arena.report.board_cells import Card, Shown, card, prices, shown
from arena.report.board_drawings import axes, bar, dashes, whisker
from arena.report.board_examples import Examples
from arena.report.board_figures import (
    SETTLED,
    capped,
    caption,
    figure,
    heading,
    mixture,
    nearest,
    open_ranks,
    place,
    points,
    ranked,
    rated,
    ruled,
    worlds,
)
from arena.report.board_notes import Note, Notes, marks, sentence, told
from arena.report.columns import NOTHING
from arena.report.defenses import Defense, defense
from arena.report.groups import FEWEST
from arena.report.templates import environment

DISTANCES = (
    "There is no chart of what attackers get against what benign clients lose: this board ranks distances, "
    "not shares of the images."
)
MOST_CHOSEN = 4
"""How many attackers of a worst case are named with their shares."""


@dataclass(frozen=True)
class Line:
    """A row of a table of agents: `scale` draws its figure."""

    agent: str
    cells: list[str]
    scale: Markup
    sort: float


@dataclass(frozen=True)
class Side:
    """The ranks of one side.

    Attributes:
        figure: what is ranked; said: who shares places, and who has none.
        lines: rank, figure and rating of each; against: by opponent, the ranks in the matrix's order.
    """

    side: str
    figure: str
    said: str
    lines: list[Line]
    against: list[tuple[str, list[str]]]
    opponents: list[str]


@dataclass(frozen=True)
class Judged:
    """What the page shows of a matrix.

    Attributes:
        prefix: of ids. rows: the matrix, a row an attacker, with its own notes.
        heads: the notes of each defender; everywhere: those of the whole matrix.
        prices: below the matrix. cards: what cells tell when asked.
        conflicts: sentences. worst: a row a defender.
        benign, agents: empty but at a world's largest count; defenses: of those whose log tells, there too.
    """

    prefix: str
    matrix: MatrixBoard
    caption: str
    notes: Notes
    rows: Sequence[tuple[str, Sequence[Note], list[Shown]]]
    heads: list[Sequence[Note]]
    everywhere: Sequence[Note]
    prices: list[tuple[str, list[Markup]]]
    cards: list[Card]
    conflicts: list[str]
    worst: list[Line]
    sides: list[Side]
    benign: BenignSection | None
    mixtures: list[tuple[str, list[tuple[str, Markup, str, str]]]]
    values: list[tuple[str, Markup, str]]
    agents: list[Agent]
    defenses: list[Defense]

    def kind(self, name: str) -> bool:
        """Whether a cell is of a kind: ends, weak or withheld."""
        return any(name in shown.kind.split() for *_, cells in self.rows for shown in cells)


@dataclass(frozen=True)
class World:
    """One world and threat: its largest count in full, and others."""

    heading: str
    rules: str
    main: Judged
    others: list[Judged]
    missing: Sequence[str]


def render_board(board: Board, examples: Examples | None = None) -> str:
    """A board as the text of an HTML file; `examples`: pictures of games."""
    found = examples or Examples()
    sections = []
    for number, group in enumerate(worlds(board)):
        judged = [_judged(m, f"w{number}m{i}", found, number) for i, m in enumerate(group)]
        sections.append(World(heading(group[0]), ruled(group[0]), judged[0], judged[1:], found.missing))
    return (
        environment(
            {
                "flagged": _flagged,
                "told": told,
                "known": _known,
                "sentence": sentence,
                "coded": _coded,
                "when": lambda time: f"{time:%Y-%m-%d %H:%M}",
            }
        )
        .get_template("board.html")
        .render(
            board=board,
            sections=sections,
            axes=axes(),
            dash=dashes,
            facts=list(_facts(board)),
            nearest=nearest,
            ruled=ruled,
            capped=capped,
            mixture=mixture,
            ranked=ranked,
            figure=figure,
            settled=SETTLED,
            glossary={**words.VERDICTS, "again": words.AGAIN},
        )
    )


def _judged(matrix: MatrixBoard, prefix: str, examples: Examples, world: int) -> Judged:
    notes = Notes(matrix)
    strongest = {(worst.strongest, worst.defender) for worst in matrix.worst}
    names = {
        (a, d): f"{prefix}c{i}-{j}"
        for i, a in enumerate(matrix.attackers)
        for j, d in enumerate(matrix.defenders)
    }
    rows = [
        (
            a,
            marks(notes.at(a, "")),
            [shown(matrix, a, d, notes, (a, d) in strongest, names[a, d]) for d in matrix.defenders],
        )
        for a in matrix.attackers
    ]
    return Judged(
        prefix=prefix,
        matrix=matrix,
        caption=caption(matrix),
        notes=notes,
        rows=rows,
        heads=[marks(notes.at("", d)) for d in matrix.defenders],
        everywhere=marks(notes.at("", "")),
        prices=prices(matrix),
        cards=[card(matrix, cell, notes, names[pair]) for pair, cell in matrix.cells.items()],
        conflicts=[
            f"{a} against {d}: {text}" for (a, d), cell in matrix.cells.items() for text in cell.conflicts
        ],
        worst=_worst(matrix),
        sides=[_side(matrix, side) for side in ("defender", "attacker")],
        benign=_benign(matrix) if prefix.endswith("m0") else None,
        mixtures=_mixtures(matrix.equilibrium),
        values=_values(matrix.equilibrium),
        agents=agents(matrix, notes, examples.of(world), prefix) if prefix.endswith("m0") else [],
        defenses=_defenses(matrix) if prefix.endswith("m0") else [],
    )


def _defenses(matrix: MatrixBoard) -> list[Defense]:
    """The defenders of a matrix, each by the first of its matches whose log tells."""
    found = []
    for name in matrix.defenders:
        facts = (
            own.get("fitted", {}) for (_, d), cell in matrix.cells.items() if d == name for own in cell.facts
        )
        rows = (defense(name, own, matrix.utilities.get(name)) for own in facts)
        found += [row for row in rows if row is not None][:1]
    return found


def _worst(matrix: MatrixBoard) -> list[Line]:
    lines = []
    for own in matrix.worst:
        left: Rate | Median = own.distance if matrix.by == "distance" and own.distance else own.left
        left_out = "; ".join(f"{agent}: {why}" for agent, why in own.left_out.items())
        cells = [
            figure(matrix, left),
            "exact" if own.exact else "half the votes choose, half value",
            f"{own.strongest} ({rated(own.strongest_left)})",
            _choices(own.chosen),
            left_out,
        ]
        scale = whisker(own.left) if matrix.by == "left" else Markup("")
        lines.append(Line(own.defender, cells, scale, left.value))
    return lines


def _benign(matrix: MatrixBoard) -> BenignSection | None:
    """What benign clients lose; attackers get what the worst case does not leave."""
    taken = {
        own.defender: Rate(1 - own.left.value, 1 - own.left.high, 1 - own.left.low)
        for own in matrix.worst
        if matrix.by == "left" and not math.isnan(own.left.value)
    }
    losses = {name: matrix.benign.get(name, ()) for name in matrix.defenders}
    warning = [name for name in matrix.defenders if _warns(matrix, name)]
    return benign_section(losses, taken, warning, chartless=DISTANCES if matrix.by == "distance" else "")


def _warns(matrix: MatrixBoard, defender: str) -> bool:
    """Whether a defender refused or flagged a share that is worth saying."""
    cells = [cell for (_, d), cell in matrix.cells.items() if d == defender]
    shares = [share for cell in cells for share in (cell.refused, cell.flagged) if share is not None]
    utility = matrix.utilities.get(defender)
    return any(
        share >= FEWEST for share in [*shares, *([utility.refused, utility.flagged] if utility else [])]
    )


def _choices(chosen: Mapping[str, float]) -> str:
    """On which share of the images each attacker is chosen, the most first."""
    order = sorted(chosen.items(), key=lambda item: -item[1])
    named = [f"{agent} {words.percent(share, 0)} %" for agent, share in order[:MOST_CHOSEN] if share >= 0.005]
    others = sum(share for _, share in order[MOST_CHOSEN:])
    return ", ".join([*named, *[f"others {words.percent(others, 0)} %"] * (others >= 0.005)])


def _side(matrix: MatrixBoard, side: str) -> Side:
    ranks = matrix.defender_ranks if side == "defender" else matrix.attacker_ranks
    ratings = {own.agent: own.rating for own in matrix.ratings if own.side == side}
    low = min((own.rating.low for own in matrix.ratings), default=0.0)
    high = max((own.rating.high for own in matrix.ratings), default=1.0)
    by = {rank.agent: rank for rank in ranks}
    lines = []
    for agent in dict.fromkeys([*by, *ratings]):
        rank, rating = by.get(agent), ratings.get(agent)
        cells = [
            place(rank) if rank else NOTHING,
            figure(matrix, rank.figure) if rank else NOTHING,
            points(rating) if rating else NOTHING,
            rank.withheld if rank else "",
        ]
        scale = whisker(rating, low, high) if rating else Markup("")
        lines.append(Line(agent, cells, scale, rank.low if rank and not rank.withheld else math.nan))
    agents = matrix.defenders if side == "defender" else matrix.attackers
    orders = [order for order in matrix.orders if order.side == side]
    said = ranked(matrix) if side == "attacker" else f"worst case: {ranked(matrix)}"
    against = [(agent, [_place_in(order, agent) for order in orders]) for agent in agents]
    return Side(side, said, open_ranks(ranks), lines, against, [order.against for order in orders])


def _place_in(order: Order, agent: str) -> str:
    rank: Rank | None = next((own for own in order.ranks if own.agent == agent), None)
    return NOTHING if rank is None else place(rank)


def _mixtures(found: Equilibrium | None) -> list[tuple[str, list[tuple[str, Markup, str, str]]]]:
    """By side its members: the bar, the share, and how often it is in the support."""
    if found is None:
        return []
    return [
        (
            title,
            [
                (
                    m.agent,
                    bar(m.share, m.support),
                    f"{words.percent(m.share)} %",
                    f"{words.percent(m.support, 0)} %",
                )
                for m in sorted(members, key=lambda m: -m.share)
            ],
        )
        for title, members in (
            ("What a service should deploy", found.defenders),
            ("What a tester should run", found.attackers),
        )
    ]


def _values(found: Equilibrium | None) -> list[tuple[str, Markup, str]]:
    """The value, beside it what one defender alone keeps, and what the strongest attacker takes beyond it."""
    if found is None:
        return []
    return [
        (name, whisker(own), rated(own))
        for name, own in (
            ("both sides mix: the value", found.value),
            (f"one defender alone: {found.pure}", found.pure_value),
            ("the strongest attacker takes beyond the value", found.exploitability),
        )
    ]


def _coded(text: str) -> Markup:
    """A text whose words in backticks are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _flagged(notes: Sequence[Note], prefix: str) -> Markup:
    """The marks of notes, which lead to them."""
    return Markup("").join(
        Markup('<a class="{}" href="#{}n{}" title="{}">{}</a>').format(
            "mark grave" if note.grave else "mark", prefix, note.number, note.indicator, note.number
        )
        for note in notes
    )


def _known(log: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of a log beside its runs, by name; several values of one kind are numbered."""
    found = []
    for key, value in log.items():
        several = value if isinstance(value, list | tuple) else [value]
        if key not in ("log", "runs"):
            for number, one in enumerate(several, 1):
                name = key.removesuffix("s") + (f" {number}" if len(several) > 1 else "")
                pairs = one.items() if isinstance(one, Mapping) else [("", one)]
                found += [(f"{name} {part}".strip(), str(text)) for part, text in pairs]
    return found


def _facts(board: Board) -> Iterator[Mapping[str, Any]]:
    """The matches of all cells, each once, with whom they were played between."""
    seen = set()
    for matrix in board.matrices:
        for (attacker, defender), cell in matrix.cells.items():
            for source in cell.facts:
                key = (source.get("log"), source.get("match"))
                if key not in seen:
                    seen.add(key)
                    yield {"attacker": attacker, "defender": defender, **source}
