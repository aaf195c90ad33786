"""A board as tables on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from arena.league.board import Board, MatrixBoard, WorstCase
from arena.report.board_figures import (
    beside,
    capped,
    caption,
    figure,
    heading,
    hollow,
    interval,
    mixture,
    nearest,
    open_ranks,
    place,
    points,
    ruled,
    short,
    weak,
    worlds,
)
from arena.report.board_notes import Notes, marks, sentence, told
from arena.report.columns import NOTHING, Column, in_every_row, telling
from arena.report.measures import WIDEST_NAME
from arena.report.terminal import NARROWEST, wide_enough, width_of
from arena.report.words import cost, listed, percent

LEAST = 0.0005
"""Members of a mixture with smaller shares are printed as 0.0 percent, which is nothing to deploy."""


def print_board(console: Console, board: Board) -> None:
    """Print a board: first what was found, then, of each world and threat at its largest count, the matrix,
    the ranks, the equilibrium and the audit."""
    console = wide_enough(console)
    _line(console, board.title, "bold")
    for said in board.sentences:
        _line(console, said)
    for group in worlds(board):
        _print_matrix(console, group[0])
        if len(group) > 1:
            counts = listed([f"{matrix.at:,}" for matrix in group[1:]])
            _line(console, f"also at {counts} queries: on the page, or here by --at N", "dim")


def _print_matrix(console: Console, matrix: MatrixBoard) -> None:
    notes = Notes(matrix)
    console.print()
    _line(console, f"{heading(matrix)} · {ruled(matrix)}", "bold")
    _line(console, f"{caption(matrix)}{_marks_in_words(matrix)}")
    for table in _matrices(console, matrix, notes):
        console.print(table, highlight=False)
    _print_side(console, matrix, "defender")
    _print_side(console, matrix, "attacker")
    _print_equilibrium(console, matrix)
    for part, why in matrix.unsaid.items():
        _line(console, f"{part}: not said, as {why}", "dim")
    _print_audit(console, notes)


def _marks_in_words(matrix: MatrixBoard) -> str:
    cells = matrix.cells.values()
    said = ["* the strongest attacker of a defender"] if matrix.worst else []
    if any(map(beside, cells)):
        said.append("in brackets by answered")
    if any(cell.two_ends for cell in cells):
        said.append("a–b: by answered and by vote")
    if any(cell.withheld for cell in cells):
        said.append("! gives no rank")
    if any(map(weak, cells)):
        said.append("≤ many games failed")
    said += ["small numbers: findings of the audit, below"] * any(
        f.status == "found" for f in matrix.findings
    )
    return "".join(f"; {text}" for text in said)


def _matrices(console: Console, matrix: MatrixBoard, notes: Notes) -> list[Table]:
    """The matrix with intervals if that fits the console, else without, else cut into several tables of
    fewer attackers: no figure is ever folded."""
    attackers = matrix.attackers
    choices = [([attackers], True), ([attackers], False)]
    for most in range(len(attackers) - 1, 0, -1):
        choices.append(([attackers[i : i + most] for i in range(0, len(attackers), most)], False))
    for parts, intervals in choices:
        tables = [_matrix(matrix, part, notes, intervals) for part in parts]
        if all(width_of(console, table) <= console.width for table in tables):
            break
    return tables


def _matrix(matrix: MatrixBoard, attackers: Sequence[str], notes: Notes, intervals: bool) -> Table:
    table = _table()
    table.add_column("defender", overflow="fold", min_width=8, max_width=WIDEST_NAME, vertical="bottom")
    strongest = {(worst.strongest, worst.defender) for worst in matrix.worst}
    texts = [
        [_cell(matrix, a, d, notes, (a, d) in strongest, intervals) for a in attackers]
        for d in matrix.defenders
    ]
    for number, attacker in enumerate(attackers):
        width = max(NARROWEST, *(Text.from_markup(line[number]).cell_len for line in texts))
        head = "\n".join(textwrap.wrap(attacker, width))
        table.add_column(
            escape(head) + _raised(notes, attacker, ""), justify="right", no_wrap=True, vertical="bottom"
        )
    for defender, line in zip(matrix.defenders, texts, strict=True):
        table.add_row(escape(defender) + _raised(notes, "", defender), *line)
    return table


def _cell(matrix: MatrixBoard, a: str, d: str, notes: Notes, worst: bool, intervals: bool) -> str:
    cell = matrix.cells.get((a, d))
    if cell is None:
        return NOTHING
    distances = nearest(matrix)
    said = ("≤ " if weak(cell) and not distances and not hollow(cell) else "") + short(cell, distances)
    said = f"[bold]{said}*[/]" if worst else said
    said += "[bold yellow]![/]" if cell.withheld else ""
    lucky = beside(cell)
    said += f" [dim]({lucky})[/]" if lucky and not distances else ""
    said += _raised(notes, a, d)
    span = interval(cell, distances) if intervals else ""
    return f"{said} [dim]{escape(span)}[/]" if span else said


def _raised(notes: Notes, attacker: str, defender: str) -> str:
    """The numbers of what was found, raised."""
    found = marks(notes.at(attacker, defender))
    text = ",".join(str(note.number) for note in found).translate(str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒"))
    style = "bold red" if any(note.grave for note in found) else "yellow"
    return f"[{style}]{text}[/]" if text else ""


def _print_side(console: Console, matrix: MatrixBoard, side: str) -> None:
    """The agents of one side in the order of their ranks."""
    ranks = matrix.defender_ranks if side == "defender" else matrix.attacker_ranks
    ratings = {own.agent: own.rating for own in matrix.ratings if own.side == side}
    agents = [rank.agent for rank in ranks] or list(ratings)
    if not agents:
        return
    by = {rank.agent: rank for rank in ranks}
    worst = {own.defender: own for own in matrix.worst}
    places = tuple(place(by[agent]) if agent in by else NOTHING for agent in agents)
    figures = tuple(figure(matrix, by[agent].figure) if agent in by else NOTHING for agent in agents)
    columns = [
        Column("rank", places, always=bool(ranks)),
        Column("worst case" if side == "defender" else "leaves", figures),
        Column("rating", tuple(points(ratings[agent]) if agent in ratings else NOTHING for agent in agents)),
    ]
    if side == "defender":
        columns += _prices(matrix, agents, [worst.get(agent) for agent in agents])
    _print_fitting(console, side, agents, columns)
    if said := open_ranks(ranks):
        _line(console, said)


def _prices(matrix: MatrixBoard, agents: Sequence[str], worst: Sequence[WorstCase | None]) -> list[Column]:
    """Who takes the most of each defender, and what it costs honest users."""
    utilities = [matrix.utilities.get(agent) for agent in agents]
    return [
        Column("strongest", tuple(NOTHING if own is None else own.strongest for own in worst), always=True),
        Column("clean\naccuracy", tuple(NOTHING if u is None else percent(u.accuracy) for u in utilities)),
        Column(
            "delay at\n1 row",
            tuple(NOTHING if u is None else cost(u.cost_1, u.cost_1_low, u.cost_1_high) for u in utilities),
        ),
        Column("refused,\n% clean", tuple(NOTHING if u is None else percent(u.refused) for u in utilities)),
    ]


def _print_fitting(console: Console, side: str, agents: Sequence[str], columns: Sequence[Column]) -> None:
    """A row an agent, with as many of the columns as fit the console, the first ones at least."""
    shown, same = telling(columns)
    choices = [(most, WIDEST_NAME) for most in range(len(shown), 1, -1)] + [(2, NARROWEST), (1, NARROWEST)]
    for most, widest in choices:
        table = _table()
        table.add_column(side, overflow="fold", min_width=8, max_width=widest, vertical="bottom")
        for column in shown[:most]:
            table.add_column(column.head, justify="right", no_wrap=True, vertical="bottom")
        for number, agent in enumerate(agents):
            table.add_row(escape(agent), *(escape(column.cells[number]) for column in shown[:most]))
        if width_of(console, table) <= console.width:
            break
    console.print()
    console.print(table, highlight=False)
    if same:
        _line(console, in_every_row(same), "dim")


def _print_equilibrium(console: Console, matrix: MatrixBoard) -> None:
    found = matrix.equilibrium
    if found is None:
        return
    console.print()
    _line(console, f"equilibrium: {mixture(found)}")
    for side, members in (("defenders", found.defenders), ("attackers", found.attackers)):
        shares = [
            f"{m.agent} {percent(m.share)} % (in {percent(m.support, 0)} % of resamples)"
            for m in members
            if m.share >= LEAST
        ]
        _line(console, f"  {side}: {listed(shares)}")
    left_out = "".join(f" Left out: {agent}, as {why}." for agent, why in found.left_out.items())
    _line(console, capped(found) + left_out, "dim")


def _print_audit(console: Console, notes: Notes) -> None:
    if not (notes.found or notes.unchecked or notes.clear):
        return
    console.print()
    _line(console, f"audit: {notes.things} found", "bold" if notes.found else "")
    for note in notes.found:
        grave = ", grave" if note.grave else ""
        many = len(note.findings)
        more = f" And {many - 1:,} more like it, which the page tells." if many > 1 else ""
        advice = f" {sentence(note.findings[0].advice)}" if note.findings[0].advice else ""
        text = f"{note.number} {note.indicator}{grave}: {told(note.findings[0])}{more}{advice}"
        _line(console, text, "red" if note.grave else "yellow")
    for same in notes.unchecked:
        of = same.of[0] if len(same.of) == 1 else f"{len(same.of):,} times"
        _line(console, f"not checked: {same.indicator} ({of}): {same.evidence}", "dim")
    if notes.clear:
        clear = listed([f"{same.indicator} ({len(same.of):,})" for same in notes.clear])
        _line(console, f"nothing found by: {clear}", "dim")


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(escape(text), highlight=False, style=style)
