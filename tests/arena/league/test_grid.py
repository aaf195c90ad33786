from __future__ import annotations

import numpy as np
import pytest

from arena.league.cells import Source
from arena.league.grid import Grid, grid, image_means, image_medians
from arena.league.matrices import matrices
from tests.arena.league.made import match


def of(*sources: Source) -> Grid:
    (matrix,) = matrices(list(sources), counts=[100])
    return grid(matrix.attackers, matrix.defenders, list(matrix.cells.values()))


def test_games_of_one_name_stand_in_one_row() -> None:
    found = of(
        match("a", "x", [1, 0, 1], image=[5, 3, 9]),
        match("a", "y", [1, 1], image=[9, 3], reason=["clean", "budget"]),
        match("b", "y", [0], image=[7]),
    )
    assert found.image.tolist() == found.images.tolist() == [3, 5, 7, 9]
    lost = found.lost
    np.testing.assert_array_equal(lost[:, 0, 0], [0, 1, np.nan, 1])
    np.testing.assert_array_equal(lost[:, 0, 1], [1, np.nan, np.nan, 1])
    np.testing.assert_array_equal(lost[:, 1, 0], np.full(4, np.nan))
    np.testing.assert_array_equal(found.played[:, 0, 1], [True, False, False, False])
    np.testing.assert_array_equal(found.there, [[True, True], [False, True]])


def test_replays_and_draws_of_an_image_are_averaged() -> None:
    one = match("a", "x", [1, 0, 1, 1], image=[1, 1, 2, 2], repeat=[0, 1, 0, 1])
    two = match("a", "x", [0, 0], image=[1, 2], draw="9", run=2)
    found = of(one, two)
    assert len(found.image) == 6
    np.testing.assert_allclose(found.by_image[:, 0, 0], [1 / 3, 2 / 3])


def test_answers_that_are_not_facts_stand_by_their_votes() -> None:
    """Even where a scenario names another headline."""
    found = of(match(won=[[13, 0], [1, 0]], votes=25))
    np.testing.assert_allclose(found.lost[:, 0, 0], [13 / 25, 1 / 25])
    np.testing.assert_allclose(found.halves[:, :, 0, 0], [[1, 1 / 13], [0, 0]])
    np.testing.assert_array_equal(found.distance[:, 0, 0], [0.1, np.inf])
    np.testing.assert_array_equal(found.nearest[:, :, 0, 0], [[0.1, np.inf], [np.inf, np.inf]])
    (matrix,) = matrices([match(won=[[13, 0]], votes=25)])
    assert next(iter(matrix.cells.values())).verdict == "vote"
    (matrix,) = matrices([match(won=[1])])
    assert next(iter(matrix.cells.values())).verdict == "answered"


def test_parts_keep_their_agents() -> None:
    found = of(*(match(a, d, [a == "b", d == "y"]) for a in "abc" for d in "xyz"))
    part = found.part(np.array([False, True, True]), np.array([True, True, False]))
    assert part.attackers == ("b", "c") and part.defenders == ("x", "y")
    np.testing.assert_array_equal(part.lost, found.lost[:, 1:, :2])
    np.testing.assert_array_equal(part.nearest, found.nearest[:, :, 1:, :2])


@pytest.mark.parametrize("seed", range(5))
def test_means_and_medians_of_images(seed: int) -> None:
    random = np.random.default_rng(seed)
    place = random.integers(0, 6, 20)
    values = np.where(random.random(20) < 0.2, np.nan, random.random(20))
    for found, plain in ((image_means, np.nanmean), (image_medians, np.nanmedian)):
        expected = [
            plain(values[place == i]) if (~np.isnan(values[place == i])).any() else np.nan for i in range(7)
        ]
        np.testing.assert_allclose(found(values, place, 7), expected)
    far = np.where(random.random(20) < 0.5, np.inf, values)
    parts = [far[~np.isnan(far) & (place == i)] for i in range(6)]
    expected = [np.median(own) if len(own) else np.nan for own in parts]
    np.testing.assert_array_equal(image_medians(far, place, 6), expected)
