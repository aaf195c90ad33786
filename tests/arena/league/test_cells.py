from __future__ import annotations

import numpy as np
import pytest

from arena.league.cells import Cell, games_at
from arena.league.matrices import matrices
from tests.arena.league.made import THREAT, match


def cell(*sources: object) -> Cell:
    (matrix,) = matrices(list(sources), counts=[100])  # type: ignore[arg-type]
    return next(iter(matrix.cells.values()))


def test_games_stand_at_a_count_by_their_last_mark() -> None:
    source = match(
        won=[1, 0, 1],
        marks={10: [0, 0, np.nan], 20: [1, 0, np.nan]},
        queries=[15, 100, 100],
        hit_at=[15, 0, 60],
    )
    early, late, end = (games_at(source, at, 0) for at in (10, 20, 100))
    assert source.counts == (10, 20, 100)
    assert early.lost("answered").tolist() == [0, 0, 0]
    assert early.hit_at.tolist() == [0, 0, 0] and early.queries.tolist() == [10, 10, 10]
    assert late.lost("answered").tolist() == [1, 0, 0]
    assert late.hit_at.tolist() == [15, 0, 0] and late.queries.tolist() == [15, 20, 20]
    assert end.lost("answered").tolist() == [1, 0, 1]
    assert late.distance.tolist() == [0.1, np.inf, np.inf]
    with pytest.raises(ValueError, match=r"no verdicts at 30 queries; there are those at \(10, 20, 100\)"):
        games_at(source, 30, 0)


def test_clean_games_are_lost_and_votes_are_shares() -> None:
    games = games_at(
        match(won=[[13, 12], [3, 0], [0, 0]], votes=25, reason=["budget", "budget", "clean"]), 100, 0
    )
    assert games.lost("vote").tolist() == [1, 3 / 25, 1]
    assert games.half(0).tolist() == [1, 3 / 13, 1]
    assert games.half(1).tolist() == [1, 0, 1]


def test_of_one_fresh_answer_both_halves_are_the_whole() -> None:
    games = games_at(match(won=[1, 0], votes=1), 100, 0)
    assert games.half(0).tolist() == games.half(1).tolist() == [1, 0]


def test_again_falls_back_on_the_vote() -> None:
    games = games_at(match(won=[1, 0.2], votes=25, again=[0, np.nan]), 100, 0)
    assert games.lost("again").tolist() == [0, 0.2]


def test_whole_hollow_and_two_ends() -> None:
    failed = {"reason": ["error", "no-start", "clean"]}
    assert cell(match(won=[0, 0, 0], **failed)).hollow
    assert not cell(match(won=[1, 0, 0], **failed)).hollow
    assert not cell(match(won=[0, 0, 0])).hollow
    assert not cell(match(won=[0] * 2, reason=["clean"] * 2)).hollow
    assert cell(match(won=[0])).whole
    assert not cell(match(won=[0], shards=(1, 2))).whole
    first = THREAT.model_copy(update={"objective": "first"})
    assert cell(match(won=[0.2], votes=25, threat=first)).two_ends
    assert not cell(match(won=[1], threat=first)).two_ends
    assert not cell(match(won=[0.2], votes=25)).two_ends
