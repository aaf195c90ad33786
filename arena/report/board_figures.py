"""What tables and pages say of a board's cells and ranks, in figures and words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from arena.league.board import Board, CellFigures, Equilibrium, MatrixBoard, Rank
from arena.league.rates import Median, Rate
from arena.report.columns import NOTHING
from arena.report.summary import MANY
from arena.report.words import NORMS, TO, between, listed, number, percent, rules, span

SETTLED = 0.05
"""Below this adjusted p two agents count as told apart."""


def nearest(matrix: MatrixBoard) -> bool:
    """Whether results are distances (objective `minimum`), not the accuracy left."""
    return matrix.threat.objective == "minimum"


def hollow(cell: CellFigures) -> bool:
    """Whether games were played and every one failed, none with a hit: nothing is known of the defense."""
    return bool(cell.played) and cell.failed == cell.played and not cell.success["answered"].value


def weak(cell: CellFigures) -> bool:
    """Whether so many games failed that what is left is an upper bound and no evidence of strength."""
    return bool(cell.played) and cell.failed / cell.played >= MANY


def left(cell: CellFigures) -> Rate:
    """The accuracy left by the headline."""
    return cell.left[cell.verdict]


def beside(cell: CellFigures) -> str:
    """What is left by `answered`, in percent, where the headline is another verdict and says something else;
    else ""."""
    if cell.verdict == "answered" or cell.two_ends or "answered" not in cell.left:
        return ""
    lucky = percent(cell.left["answered"].value)
    return lucky if lucky != percent(left(cell).value) else ""


def short(cell: CellFigures, distances: bool) -> str:
    """What a cell leaves, without its interval; `distances`: its median distance."""
    if hollow(cell):
        return "failed"
    if cell.two_ends:
        low, high = percent(cell.left["answered"].value), percent(cell.left["vote"].value)
        return low if low == high else f"{low}{TO}{high}"
    if distances and cell.distance is not None:
        return number(cell.distance.value)
    return percent(left(cell).value)


def interval(cell: CellFigures, distances: bool) -> str:
    """The interval of what `short` says."""
    if hollow(cell) or cell.two_ends:
        return ""
    return between(cell.distance) if distances and cell.distance is not None else span(left(cell), 1)


def rated(rate: Rate, digits: int = 1) -> str:
    """A share in percent with its interval."""
    return f"{percent(rate.value, digits)} {span(rate, digits)}".strip()


def points(rate: Rate) -> str:
    """A rating with its interval."""
    return f"{rate.value:,.0f} [{rate.low:,.0f}, {rate.high:,.0f}]"


def place(rank: Rank) -> str:
    """The rank, or those that the tests leave open."""
    if rank.withheld:
        return NOTHING
    return str(rank.low) if rank.low == rank.high else f"{rank.low}{TO}{rank.high}"


def open_ranks(ranks: Sequence[Rank]) -> str:
    """What a reader must know of an order: who shares places, and who has none."""
    placed = [rank for rank in ranks if not rank.withheld]
    unsettled = [rank.agent for rank in placed if rank.low != rank.high]
    withheld = [rank.agent for rank in ranks if rank.withheld]
    said = []
    if placed and not unsettled:
        said.append("Every rank is settled.")
    elif unsettled:
        said.append(
            f"{len(placed) - len(unsettled)} of {len(placed)} ranks are settled; a range says which places "
            "the tests leave open."
        )
    if withheld:
        said.append(f"Without a rank: {listed(withheld)}.")
    return " ".join(said)


def heading(matrix: MatrixBoard) -> str:
    """The world of a matrix."""
    return f"{matrix.dataset}, {matrix.classifier}"


def ruled(matrix: MatrixBoard) -> str:
    """The threat of a matrix in one line."""
    return rules(matrix.threat, {matrix.at})


def worlds(board: Board) -> list[list[MatrixBoard]]:
    """The matrices by world and threat but for the count, the largest count first."""
    groups: dict[str, list[MatrixBoard]] = {}
    for matrix in board.matrices:
        first = next(iter(matrix.cells.values()), None)
        shas = [source.get(key) for source in (first.facts[:1] if first else ()) for key in _WORLD]
        key = repr((matrix.dataset, matrix.classifier, shas, matrix.threat.with_budget(1)))
        groups.setdefault(key, []).append(matrix)
    return list(groups.values())


def caption(matrix: MatrixBoard) -> str:
    """What the figures of a matrix are."""
    by = sorted({cell.verdict for cell in matrix.cells.values()})
    said = "by answered where the same image always gets the same answer, else by vote"
    verdict = (
        f"by {by[0]}" if len(by) == 1 else said if set(by) == {"answered", "vote"} else f"by {listed(by)}"
    )
    if nearest(matrix):
        return (
            f"Median {NORMS[matrix.threat.norm]} distance at {matrix.at:,} queries over the games played, "
            f"infinite where half of them have no win, {verdict}, with 95 % intervals"
        )
    return f"Accuracy left at {matrix.at:,} queries, in percent of the games, {verdict}, with 95 % intervals"


def figure(matrix: MatrixBoard, own: Rate | Median) -> str:
    """What ranks are of, with its interval: accuracy left in percent, or a median distance."""
    if math.isnan(own.value):
        return NOTHING
    if matrix.by == "distance":
        return f"{number(own.value)} [{number(own.low)}, {number(own.high)}]"
    return rated(Rate(own.value, own.low, own.high))


def ranked(matrix: MatrixBoard) -> str:
    """What the ranks of a matrix are of, as a heading."""
    return f"median {NORMS[matrix.threat.norm]} distance" if matrix.by == "distance" else "accuracy left, %"


def mixture(found: Equilibrium) -> str:
    """What the equilibrium says, in sentences."""
    gain = "" if math.isnan(found.gain.value) else f" (mixture minus single: {rated(found.gain)} points)"
    return (
        "Where each client meets one defender, drawn from the mixture for its whole game, the service keeps "
        f"{rated(found.value)} percent against the attackers' best mixture. The best single defender, "
        f"{found.pure}, keeps {rated(found.pure_value)}{gain}. The strongest single attacker takes "
        f"{rated(found.exploitability)} points more from the mixture, on images that did not "
        "choose the mixture."
    )


def capped(found: Equilibrium) -> str:
    """What the mixture of defenders had to keep to, and what it costs."""
    units = {"accuracy": ("lost clean accuracy", " points"), "delay": ("delay", " times the undefended")}

    def told(values: Mapping[str, float | None], how: str, digits: int) -> list[str]:
        known = [(units.get(name, (name, "")), value) for name, value in values.items() if value is not None]
        return [f"{name} {how} {value:.{digits}g}{unit}" for (name, unit), value in known]

    caps, prices = told(found.caps, "at most", 6), told(found.prices, "about", 2)
    said = f"Under caps: {listed(caps)}." if caps else "No cap on lost accuracy or delay was set."
    return f"{said} The mixture costs: {listed(prices)}." if prices else said


_WORLD = ("dataset_sha", "classifier_sha")
