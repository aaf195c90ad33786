"""Defenders and attackers of a matrix in order.

Defenders stand by their worst case; against one attacker, by what each keeps. An attacker stands by what the
defender that is hardest for it keeps, never by a mean over defenders: which one that is, is chosen on one
half of the images and valued on the other, both ways. Nobody is settled as better than one who met an agent
that it did not meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from arena.league.board import Order, PairTest, Rank, Side, WorstCase
from arena.league.estimates import median_distance, share
from arena.league.grid import Grid, image_medians
from arena.league.matrices import Matrix
from arena.league.pairs import adjust, pair_tests, ranked
from arena.league.rates import Median, Rate
from arena.league.standing import reasons, why_not
from arena.league.worst import Worst, worst_case
from arena.rules.outcome import Floats


@dataclass(frozen=True)
class Judged:
    """The parts of a board that this module makes (`board.MatrixBoard`)."""

    worst: Sequence[WorstCase]
    defender_ranks: Sequence[Rank]
    attacker_ranks: Sequence[Rank]
    tests: Sequence[PairTest]
    orders: Sequence[Order]


def judged(
    matrix: Matrix, grid: Grid, why: Mapping[tuple[str, str], str], unsaid: dict[str, str], looks: int
) -> Judged:
    """Worst cases and orders; why a part is empty goes to `unsaid`.

    Args:
        grid: the cells that may be ranked; why: why others may not.
        looks: how often ranks are tested in all.
    """
    cannot = reasons(matrix, why)
    if not grid.there.any():
        for part in ("worst", "defender_ranks", "attacker_ranks", "orders"):
            unsaid[part] = "no cell may be ranked: " + next(iter(cannot.values()), "there are no games")
        return Judged([], [], [], [], [])
    nearest = matrix.threat.objective == "minimum"
    worst = _worst(matrix, grid, cannot, nearest)
    by_worst = _defenders(grid, worst, cannot, nearest, looks)
    by_hardest = _attackers(grid, cannot, nearest, looks)
    return Judged(
        worst=[own.figures for own in worst.values()],
        defender_ranks=by_worst[0],
        attacker_ranks=by_hardest[0],
        tests=[*by_worst[1], *by_hardest[1]],
        orders=_orders(grid, cannot, nearest, looks),
    )


def _worst(
    matrix: Matrix, grid: Grid, cannot: Mapping[tuple[str, str], str], nearest: bool
) -> dict[str, Worst]:
    found = {}
    for defender in grid.defenders:
        left_out = {a: said for (a, d), said in cannot.items() if d == defender}
        facts = all(cell.facts for cell in matrix.against(defender))
        if (own := worst_case(grid, defender, facts, nearest, left_out)) is not None:
            found[defender] = own
    return found


def _defenders(
    grid: Grid, worst: Mapping[str, Worst], cannot: Mapping[tuple[str, str], str], nearest: bool, looks: int
) -> tuple[list[Rank], list[PairTest]]:
    values = {name: own.distance if nearest else own.left for name, own in worst.items()}
    figures: dict[str, Rate | Median] = {}
    for name, own in worst.items():
        far = own.figures.distance
        figures[name] = far if nearest and far is not None else own.figures.left
    tests = pair_tests(values, nearest, looks=looks)
    met = {name: set(own.figures.attackers) for name, own in worst.items()}
    lacking = {d: why_not(cannot, 1, d) for d in grid.defenders if d not in worst}
    return ranked(figures, tests, high_is_best=True, open_pairs=_open(met), withheld=lacking), tests


def _attackers(
    grid: Grid, cannot: Mapping[tuple[str, str], str], nearest: bool, looks: int
) -> tuple[list[Rank], list[PairTest]]:
    values, met = {}, {}
    for a, name in enumerate(grid.attackers):
        own = np.flatnonzero(grid.there[a]).tolist()
        if len(own):
            values[name] = _hardest(np.stack([_values(grid, a, d, nearest) for d in own]), nearest)
            met[name] = {grid.defenders[d] for d in own}
    tests = pair_tests(values, nearest, looks=looks)
    lacking = {a: why_not(cannot, 0, a) for a in grid.attackers if a not in values}
    figures = {name: _figure(own, nearest) for name, own in values.items()}
    return ranked(figures, tests, high_is_best=False, open_pairs=_open(met), withheld=lacking), tests


def _hardest(values: Floats, nearest: bool, seed: int = 0) -> Floats:
    """[n], or [1,n] of distances: what each image keeps by the defender that keeps most on the other half of
    the images.

    Args:
        values: [D,n] of images, NaN where a defender has no game.
    """
    n = values.shape[1]
    halves = np.array_split(np.random.default_rng(seed).permutation(n), 2)
    found = np.full(n, np.nan)
    for own, other in (halves, halves[::-1]):
        keeps = [_middle(v[own], nearest) for v in values]
        found[other] = values[int(np.argmax(keeps))][other]
    return found[None] if nearest else found


def _middle(values: Floats, nearest: bool) -> float:
    known = values[~np.isnan(values)]
    if not len(known):
        return -np.inf
    return float(np.median(known) if nearest else known.mean())


def _orders(grid: Grid, cannot: Mapping[tuple[str, str], str], nearest: bool, looks: int) -> list[Order]:
    """All orders against single agents; their tests are adjusted together."""
    drafts = []
    sides: list[tuple[Side, tuple[str, ...]]] = [("defender", grid.attackers), ("attacker", grid.defenders)]
    for side, others in sides:
        for against in others:
            values = _against(grid, side, against, nearest)
            if len(values) > 1:
                drafts.append((side, against, values, pair_tests(values, nearest)))
    adjusted = iter(adjust([test.p for *_, tests in drafts for test in tests], looks))
    orders = []
    for side, against, values, tests in drafts:
        tests = [replace(test, adjusted=next(adjusted)) for test in tests]
        figures = {name: _figure(own, nearest) for name, own in values.items()}
        lacking = {
            pair[side == "defender"]: said
            for pair, said in cannot.items()
            if pair[side == "attacker"] == against and pair[side == "defender"] not in values
        }
        ranks = ranked(figures, tests, high_is_best=side == "defender", withheld=lacking)
        orders.append(Order(side, against, ranks, tests))
    return orders


def _against(grid: Grid, side: Side, against: str, nearest: bool) -> dict[str, Floats]:
    """By agent of a side with a cell against one of the other side, what each image keeps there."""
    found = {}
    for name in grid.defenders if side == "defender" else grid.attackers:
        attacker, defender = (against, name) if side == "defender" else (name, against)
        a, d = grid.attackers.index(attacker), grid.defenders.index(defender)
        if grid.there[a, d]:
            values = _values(grid, a, d, nearest)
            found[name] = values[None] if nearest else values
    return found


def _values(grid: Grid, a: int, d: int, nearest: bool) -> Floats:
    """[I] what each image keeps in a cell, or its distance."""
    if nearest:
        return image_medians(grid.distance[:, a, d], grid.place, len(grid.images))
    return np.asarray(1 - grid.by_image[:, a, d])


def _figure(values: Floats, nearest: bool) -> Rate | Median:
    if nearest:
        return median_distance(values[:, ~np.isnan(values[0])].T)
    return share(values[~np.isnan(values)])


def _open(met: Mapping[str, set[str]]) -> dict[tuple[str, str], str]:
    """Pairs (better, worse) that no test settles: the better one did not meet all that the worse one met."""
    found = {}
    for a, b in combinations(met, 2):
        for better, worse in ((a, b), (b, a)):
            if missed := met[worse] - met[better]:
                found[better, worse] = f"it did not meet {sorted(missed)[0]}"
    return found
