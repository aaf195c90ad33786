from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from arena.league.board import CellFigures
from arena.league.cells import Source
from arena.league.estimates import difference, exact, figures, mean_count, median_distance, share
from arena.league.matrices import matrices
from arena.log.answers import PurposeCounts
from arena.statistics import median_interval, wilson
from tests.arena.league.made import THREAT, match

shares = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)
changes = st.lists(st.floats(-1, 1), min_size=1, max_size=30).map(np.array)


def told(source: Source, at: int = 100) -> CellFigures:
    (matrix,) = matrices([source], counts=[at])
    return figures(next(iter(matrix.cells.values())), [], "", [])


@given(shares)
def test_an_interval_of_shares_holds_the_mean_and_is_never_a_point(x: NDArray[np.float64]) -> None:
    found = share(x)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 1 / (len(x) + 4) / 4
    other = share(1 - x)
    assert math.isclose(other.low, 1 - found.high, abs_tol=1e-9)
    assert math.isclose(other.high, 1 - found.low, abs_tol=1e-9)
    low, high = wilson(min(float(x.sum()), len(x)), len(x))
    assert found.low >= low - 1e-9 and found.high <= high + 1e-9


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_of_yes_and_no_it_is_wilsons(x: list[bool]) -> None:
    found = share(np.array(x, np.float64))
    assert (found.low, found.high) == pytest.approx(wilson(sum(x), len(x)), abs=1e-9)


def test_the_order_of_images_does_not_matter_and_no_images_say_nothing() -> None:
    x = np.random.default_rng(0).random(30)
    one, other = share(x), share(x[::-1])
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert math.isnan(share(np.zeros(0)).value) and share(np.zeros(0)).high == 1


def votes(random: np.random.Generator, p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(random.binomial(25, p) / 25)


POPULATIONS: dict[str, tuple[float, Callable[[np.random.Generator, int], NDArray[np.float64]]]] = {
    "facts": (0.1, lambda r, n: (r.random(n) < 0.1) * 1.0),
    "votes near 0": (0.02, lambda r, n: votes(r, np.full(n, 0.02))),
    "votes between images": (0.2, lambda r, n: votes(r, r.beta(0.2, 0.8, n))),
    "few images lost": (
        0.1 * 0.95 + 0.9 * 0.03,
        lambda r, n: votes(r, np.where(r.random(n) < 0.1, 0.95, 0.03)),
    ),
    "replays": (0.05, lambda r, n: r.binomial(3, np.where(r.random(n) < 0.1, 0.5, 0)) / 3),
}


@pytest.mark.parametrize("n", [12, 50])
@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_of_shares_cover_the_truth(name: str, n: int) -> None:
    """Nominally in 95 of 100 cases; a plain bootstrap covers in 50 to 75 of them where n is 12."""
    random = np.random.default_rng(4)
    truth, draw = POPULATIONS[name]
    found = [share(draw(random, n)) for _ in range(1000)]
    assert np.mean([own.low <= truth <= own.high for own in found]) > 0.935


@given(changes)
def test_an_interval_of_differences_holds_the_mean_and_turns_with_the_sign(d: NDArray[np.float64]) -> None:
    found, turned = difference(d), difference(-d)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low
    assert (-turned.high, -turned.low) == pytest.approx((found.low, found.high), abs=1e-9)


def test_of_yes_and_no_differences_are_bonetts_and_prices() -> None:
    """Their formula, of 7 pairs that rose, 2 that fell and 21 equal ones."""
    up, down, n = 8 / 32, 3 / 32, 32
    half = 1.959963985 * math.sqrt((up + down - (up - down) ** 2) / n)
    found = difference(np.array([1.0] * 7 + [-1.0] * 2 + [0.0] * 21))
    assert found.value == pytest.approx(5 / 30)
    assert (found.low, found.high) == pytest.approx((up - down - half, up - down + half))


@pytest.mark.parametrize("n", [12, 50])
def test_intervals_of_differences_cover_the_truth(n: int) -> None:
    random = np.random.default_rng(5)
    covered = []
    for _ in range(1000):
        p = random.beta(0.2, 0.8, n)
        both = random.random(n)
        worse = difference((both < 0.2) * 1.0 - (both > 0.95))
        equal = difference(votes(random, p) - votes(random, p))
        covered.append((worse.low <= 0.15 <= worse.high, equal.low <= 0 <= equal.high))
    assert np.mean(covered, axis=0).min() > 0.935


def test_the_exact_interval_of_a_vote_is_scipys() -> None:
    wrong, asked = np.array([0, 1, 13, 24, 25, 0]), np.array([25, 25, 25, 25, 25, 1])
    low, high = exact(wrong, asked)
    for i in range(len(wrong)):
        found = binomtest(int(wrong[i]), int(asked[i])).proportion_ci(method="exact")
        assert (low[i], high[i]) == pytest.approx((found.low, found.high))
    assert [ends.tolist() for ends in exact(np.array([0]), np.array([0]))] == [[0.0], [1.0]]


def test_medians_may_be_infinite() -> None:
    far = np.array([1.0, 2, 3, 4, 5, 6, 7] + [np.inf] * 5)
    found = median_distance(far)
    assert found.value == 6.5 and found.low >= 3 and math.isinf(found.high)
    few = median_distance(np.ones(5))
    assert (few.value, few.low, few.high) == (1, 0, np.inf)
    assert math.isnan(median_distance(np.zeros(0)).value)
    assert math.isinf(median_distance(np.full(9, np.inf)).low)


@pytest.mark.parametrize("n", [7, 8, 13, 40])
def test_the_bootstrap_of_a_median_is_that_of_resamples(n: int) -> None:
    """Of 50,000 resamples the quantiles lie at values next to those of the closed form, or at them."""
    x = np.sort(np.random.default_rng(n).random(n))
    drawn = np.median(np.random.default_rng(0).choice(x, (50_000, n)), axis=1)
    found = median_distance(x)
    least, most = median_interval(x)
    assert found.low <= min(np.quantile(drawn, 0.028), least + 1e-12)
    assert found.high >= max(np.quantile(drawn, 0.972), most - 1e-12)
    below, above = np.searchsorted(x, (found.low, found.high))
    ends = np.quantile(drawn, (0.025, 0.975))
    assert found.low == least or x[below + 1] > ends[0]
    assert found.high == most or x[above - 1] < ends[1]


@pytest.mark.parametrize("n", [6, 8, 13])
def test_medians_cover_the_truth(n: int) -> None:
    random = np.random.default_rng(6)
    found = [median_distance(random.exponential(1, n)) for _ in range(1000)]
    assert np.mean([own.low <= math.log(2) <= own.high for own in found]) > 0.935


def test_two_distances_of_an_image_are_resampled_together() -> None:
    """Else an interval would be as narrow as if there were twice as many images."""
    x = np.random.default_rng(1).random(30)
    twice = median_distance(np.stack([x, x], axis=1))
    once = median_distance(x)
    assert twice.value == once.value
    assert twice.high - twice.low >= 0.9 * (once.high - once.low)


def test_mean_queries() -> None:
    equal = mean_count(np.full(10, 100.0), 100)
    assert equal.high == equal.value == 100 and equal.low == pytest.approx(100 * wilson(10, 10)[0])
    none = mean_count(np.full(10, 40.0), 100)
    assert none.low < 40 < none.high
    some = mean_count(np.array([10.0, 20, 30, 100]), 100)
    assert some.value == 40 and some.low == 0 and some.high == 100
    assert math.isnan(mean_count(np.zeros(0), 5).value)


def test_figures_of_a_cell() -> None:
    asked = [PurposeCounts("a", 60, 3, 0, 1, 0), PurposeCounts("b", 40, 0, 4, 0, 0)]
    source = match(
        won=[1, 1, 0, 0],
        image=[1, 1, 2, 3],
        repeat=[0, 1, 0, 0],
        marks={10: [1, 0, 0, 0]},
        reason=["hit", "hit", "error", "clean"],
        queries=[5, 15, 100, 0],
        hit_at=[5, 15, 0, 0],
        asked=asked,
    )
    found = told(source)
    assert (found.games, found.played, found.images, found.failed) == (4, 3, 3, 1)
    assert found.left["answered"].value == pytest.approx(1 / 3), (
        "an image counts once, however often replayed"
    )
    assert found.success["answered"].value == pytest.approx(1 / 2), "of two images played"
    assert (found.left["answered"].low, found.left["answered"].high) == pytest.approx(wilson(1, 3))
    assert found.queries_mean.value == pytest.approx(55)
    assert found.queries_median.value == 55 and found.hits_median.value == 10
    assert (found.refused, found.flagged) == (0.03, 0.04)
    assert found.distance is None and "again" not in found.left
    early = told(source, 10)
    assert early.left["answered"].value == pytest.approx(1 / 2)
    assert (early.refused, early.flagged) == (None, None), "the log does not tell when in a game"
    assert early.queries_mean.value == pytest.approx((7.5 + 10) / 2)


def test_distances_are_those_of_the_headline() -> None:
    minimum = THREAT.model_copy(update={"objective": "minimum"})
    won = [[13, 12], [13, 12], [0, 0], [2, 2], [13, 0], [10, 3]]
    found = told(match(won=won, votes=25, threat=minimum)).distance
    assert found is not None and found.value == 0.1, "four of six lose their votes"
    again = told(match(won=won, votes=25, again=[1, 0, 0, 0, 1, 1])).left["again"]
    assert again.value == pytest.approx(1 / 2)


def test_insider_evaluations_are_a_mean_over_the_games_played() -> None:
    own = told(match(won=[0, 1, 1], reason=["budget", "budget", "clean"], insider_queries=[30, 50, 0]))
    assert own.insider == 40
