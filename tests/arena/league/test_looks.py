"""Further games: who gets them, how often ranks are looked at, and that looking often settles nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arena.league.boards import board_of
from arena.league.cells import Source
from arena.league.further import next_part, open_defenders
from arena.league.looks import LOOKS, SpendingError, looks_done, looks_of, up_to
from arena.league.matrices import matrices
from arena.league.pairs import ALPHA, pair_tests
from tests.arena.league.made import BEGUN, match


def of_part(source: Source, look: int, games: int = 400, each: int = 25, ended: bool = True) -> Source:
    told = {"games": games, "looks": LOOKS, "look": look, "each": each}
    info = replace(source.run.info, resolved={**source.run.info.resolved, "further": told})
    return replace(source, run=replace(source.run, info=info, ended=BEGUN if ended else None))


def cells(keeps: dict[str, float], n: int = 40, **changes: Any) -> list[Source]:
    lost = np.arange(n) / n
    return [
        match("a", name, (lost >= kept) * 1.0, number=i, **changes)
        for i, (name, kept) in enumerate(keeps.items())
    ]


def judged(sources: list[Source], looks: int | None = None) -> Any:
    return matrices(sources)[0], board_of(sources, title="", looks=looks).matrices[0]


def test_games_go_to_the_defenders_whose_ranks_are_open() -> None:
    matrix, board = judged(cells({"good": 0.9, "near": 0.35, "nearer": 0.3}), 1 + LOOKS)

    part = next_part(matrix, board, 400, 1)

    assert open_defenders(matrix, board) == ["near", "nearer"]
    assert part is not None
    assert [cell.defender for cell in part.cells] == ["near", "nearer"]
    assert part.each == 400 // LOOKS // 2
    assert part.told == {"games": 400, "looks": LOOKS, "look": 1, "each": 50}


def test_settled_ranks_and_too_few_games_get_none() -> None:
    assert next_part(*judged(cells({"good": 0.9, "bad": 0.1}), 1 + LOOKS), 400, 1) is None
    assert next_part(*judged(cells({"one": 0.35, "other": 0.3}), 1 + LOOKS), 8 * LOOKS, 1) is None


def test_how_many_games_a_cell_gets_is_fixed_after_the_first_look() -> None:
    first = cells({"one": 0.35, "other": 0.3, "third": 0.9})
    part = [of_part(s, 1, each=7) for s in cells({"one": 0.35, "other": 0.3}, n=7, draw="1", run=2)]
    found = next_part(*judged([*first, *part]), 400, 2)

    assert found is not None
    assert (found.each, found.look) == (7, 2)


def test_a_log_tells_at_how_many_looks_its_ranks_are_tested() -> None:
    first = cells({"good": 0.7, "bad": 0.4})
    part = [of_part(s, 1) for s in cells({"good": 0.7, "bad": 0.4}, draw="1", run=2)]

    assert looks_of(first) == 1
    assert looks_of([*first, *part]) == 1 + LOOKS
    (one,), (other,) = (judged(first, looks)[1].tests for looks in (1, 1 + LOOKS))
    assert other.adjusted == pytest.approx(min(1, (1 + LOOKS) * one.adjusted))
    said = judged([*first, *part])[1].notes["defender_ranks"]
    assert "looked at 5 times at most" in said


def test_looks_that_ended_are_counted_and_another_number_of_games_is_refused() -> None:
    first = cells({"one": 0.5})
    sources = [*first, of_part(first[0], 1), of_part(first[0], 2, ended=False)]

    assert looks_done(sources, 400) == 1
    assert looks_done(first, 400) == 0
    assert up_to(sources, 1) == sources[:2]
    with pytest.raises(SpendingError, match=r"holds 400 further games, .*: --spend 400 goes on with them"):
        looks_done(sources, 500)


def test_equals_are_hardly_ever_settled_however_often_one_looks() -> None:
    """Two agents that are worth the same, looked at five times on growing data: at the plain level one of
    them would be called better in over a tenth of the leagues."""
    random = np.random.default_rng(0)
    wrong = plain = 0
    leagues = 400
    for _ in range(leagues):
        one, other = (random.random(200) < 0.5) * 1.0, (random.random(200) < 0.5) * 1.0
        seen = [
            pair_tests({"one": one[:n], "other": other[:n]}, looks=1 + LOOKS)[0].adjusted
            for n in (40, 80, 120, 160, 200)
        ]
        wrong += min(seen) < ALPHA
        plain += min(seen) / (1 + LOOKS) < ALPHA

    assert wrong / leagues <= ALPHA
    assert plain / leagues > 2 * ALPHA
