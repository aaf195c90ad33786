from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from arena.statistics import (
    bootstrap,
    ece,
    ece_quantile,
    holm,
    median_interval,
    paired_difference,
    sign_test,
    wilson,
)


@given(n=st.integers(1, 2000), share=st.floats(0, 1), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_wilson_is_scipys(n: int, share: float, confidence: float) -> None:
    k = round(share * n)
    low, high = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((low, high), abs=1e-12)


@given(n=st.integers(1, 100), share=st.floats(0, 1))
def test_ends_of_wilson_solve_the_score_equation(n: int, share: float) -> None:
    """|k/n - p| = z sqrt(p (1-p)/n) at both ends p, for shares of votes as well."""
    k = share * n
    for p in wilson(k, n):
        if 0 < p < 1:
            assert abs(share - p) == pytest.approx(1.959963984540054 * math.sqrt(p * (1 - p) / n), abs=1e-6)


def test_wilson_at_its_ends() -> None:
    assert wilson(0, 0) == (0, 1)
    z2 = stats.norm.ppf(0.975) ** 2
    low, high = wilson(0, 10)
    assert low == 0
    assert high == pytest.approx(z2 / (10 + z2))
    low, high = wilson(10, 10)
    assert low == pytest.approx(10 / (10 + z2))
    assert high == 1


@pytest.mark.parametrize(
    "given_", [(-1, 5), (6, 5), (math.nan, 5), (1, 5, 0.0), (1, 5, 1.0), (1, 5, math.nan)]
)
def test_wilson_refuses_what_is_no_rate(given_: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        wilson(*given_)


def test_bootstrap_of_the_mean_is_that_of_the_normal_where_n_is_large() -> None:
    x = np.random.default_rng(1).exponential(size=4000)
    half = stats.norm.ppf(0.975) * x.std() / math.sqrt(len(x))
    assert bootstrap(x, seed=3) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)


def test_bootstrap_of_the_median_is_that_of_order_statistics() -> None:
    """The median of a resample is below the k-th value when more than half of Binomial(n, k/n) are."""
    x = np.arange(1.0, 202)
    k = np.arange(1, 202)
    below = stats.binom.sf(100, 201, k / 201)  # P(median of resample <= k)
    expected = k[np.searchsorted(below, 0.025)], k[np.searchsorted(below, 0.975)]
    assert bootstrap(x, np.median, resamples=20_000) == pytest.approx(expected, abs=2)


def test_bootstrap_of_bernoulli_covers_as_it_says() -> None:
    """Exact law: resampled means of k ones among n are Binomial(n, k/n)/n."""
    x = np.repeat([0.0, 1.0], [60, 40])
    low, high = bootstrap(x, confidence=0.9, resamples=20_000)
    assert low == pytest.approx(stats.binom.ppf(0.05, 100, 0.4) / 100, abs=0.011)
    assert high == pytest.approx(stats.binom.ppf(0.95, 100, 0.4) / 100, abs=0.011)


def test_infinite_distances_stay_infinite_and_are_never_nan() -> None:
    few = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, np.inf])
    assert bootstrap(few, np.mean, confidence=0.2) == (np.inf, np.inf)
    low, high = bootstrap(few, np.median)
    assert 1 <= low <= 5 < high < np.inf
    half = np.array([1.0] * 5 + [np.inf] * 5)
    assert bootstrap(half, np.median) == (1, np.inf)
    assert bootstrap([np.inf] * 4, np.median) == (np.inf, np.inf)


def test_bootstrap_depends_on_the_seed_alone() -> None:
    x = np.random.default_rng(0).normal(size=50)
    assert bootstrap(x, seed=1) == bootstrap(x, seed=1)
    assert bootstrap(x, seed=1) != bootstrap(x, seed=2)
    assert bootstrap([2.5]) == (2.5, 2.5)


def test_bootstrap_goes_in_pieces_for_many_values() -> None:
    x = np.ones(2**21)
    x[::2] = 0
    low, high = bootstrap(x, resamples=5)
    assert low == pytest.approx(0.5, abs=0.002)
    assert high == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("x", [[], [1, math.nan], [-math.inf], [[1.0, 2.0]]])
def test_bootstrap_refuses_what_has_no_interval(x: Any) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap(x)


def naive_ece(p: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = (p > b / bins) & (p <= (b + 1) / bins)
        if b == 0:
            inside |= p == 0
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - p[inside].mean())
    return total


@given(
    pairs=st.lists(
        st.tuples(st.one_of(st.floats(0, 1), st.integers(0, 15).map(lambda b: b / 15)), st.booleans()),
        min_size=1,
        max_size=60,
    ),
    bins=st.sampled_from([1, 2, 10, 15]),
)
def test_ece_is_its_definition(pairs: list[tuple[float, bool]], bins: int) -> None:
    p, right = np.array([c for c, _ in pairs]), np.array([r for _, r in pairs])
    assert ece(p, right, bins) == pytest.approx(naive_ece(p, right, bins), abs=1e-12)


def test_ece_of_known_bins() -> None:
    assert ece([1.0] * 4, [True] * 4) == 0
    assert ece([1.0] * 4, [False] * 4) == 1
    assert ece([0.2, 0.2], [True, False], bins=5) == pytest.approx(0.3)
    # 0.2 closes the first of five bins: with 0.1 it is off by |1 - 0.3| over two; 0.21 is alone
    assert ece([0.1, 0.2, 0.21], [True, False, False], bins=5) == pytest.approx((0.7 + 0.21) / 3)


def test_ece_quantile_has_bins_of_equal_mass() -> None:
    p = np.linspace(0.9, 0.99, 6)
    right = np.array([True, False, True, True, False, False])
    expected = np.abs((right - p).reshape(3, 2).sum(1)).sum() / 6
    order = np.array([3, 1, 5, 0, 2, 4])
    assert ece_quantile(p, right, bins=3) == pytest.approx(expected)
    assert ece_quantile(p[order], right[order], bins=3) == pytest.approx(expected)
    assert ece(p, right, bins=3) == pytest.approx(abs((right - p).sum()) / 6)


def test_ece_quantile_keeps_equal_confidences_together() -> None:
    assert ece_quantile([0.5] * 8, [True, False] * 4, bins=4) == 0
    assert ece_quantile([0.5] * 8, [True] * 4 + [False] * 4, bins=4) == 0


@pytest.mark.parametrize("metric", [ece, ece_quantile])
@pytest.mark.parametrize(
    ("p", "right"),
    [
        ([], []),
        ([0.5], [True, False]),
        ([1.1], [True]),
        ([-0.1], [True]),
        ([math.nan], [True]),
        ([[0.5]], [[True]]),
    ],
)
def test_ece_refuses_what_is_no_confidence(metric: Any, p: Any, right: Any) -> None:
    with pytest.raises(ValueError, match="confidence"):
        metric(p, right)


@given(n=st.integers(1, 400), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_a_medians_interval_is_the_narrowest_that_the_binomial_grants(n: int, confidence: float) -> None:
    low, high = median_interval(np.arange(1.0, n + 1), confidence=confidence)
    k = 0 if math.isinf(low) else int(low)
    assert high == (math.inf if k == 0 else n + 1 - k)
    slack = 1e-9
    assert k == 0 or 2 * stats.binom.cdf(k - 1, n, 0.5) <= 1 - confidence + slack
    assert 2 * stats.binom.cdf(k, n, 0.5) > 1 - confidence - slack


def test_a_medians_interval_encloses_it_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    ends = np.array([median_interval(x) for x in rng.exponential(size=(4000, 25))])
    kept = ((ends[:, 0] <= math.log(2)) & (math.log(2) <= ends[:, 1])).mean()
    assert kept == pytest.approx(1 - 2 * stats.binom.cdf(7, 25, 0.5), abs=0.01)


def test_infinite_values_have_their_places_in_a_medians_interval() -> None:
    x = np.append(np.arange(20.0), np.full(20, math.inf))
    assert median_interval(x) == (13, math.inf)
    assert median_interval(np.full(9, math.inf)) == (math.inf, math.inf)
    assert median_interval([1.0, 2.0]) == (-math.inf, math.inf)


def test_values_that_are_not_independent_count_as_their_units() -> None:
    x = np.random.default_rng(1).normal(size=30)
    assert median_interval(np.repeat(x, 4), 30) == median_interval(x)
    low, high = median_interval(np.repeat(x, 4))
    assert median_interval(x)[0] < low < high < median_interval(x)[1]


@pytest.mark.parametrize("given_", [([],), ([math.nan],), ([1.0], 2), ([1.0], 0)])
def test_a_median_of_nothing_has_no_interval(given_: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="a median needs values"):
        median_interval(*given_)


def table_of_pairs(both: int, one: int, other: int, neither: int) -> tuple[list[bool], list[bool]]:
    counts = ((True, True, both), (True, False, one), (False, True, other), (False, False, neither))
    pairs = [(a, b) for a, b, n in counts for _ in range(n)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_a_paired_difference_is_newcombes() -> None:
    x, y = table_of_pairs(36, 12, 2, 0)  # Newcombe 1998, his first example, method 10
    assert paired_difference(y, x) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert paired_difference(x, y) == pytest.approx((-0.3404, -0.0569), abs=5e-5)


def test_a_paired_difference_holds_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    for n, p, kept in ((40, 0.3, 0.5), (100, 0.7, 0.8)):
        held = []
        for _ in range(1000):
            x = rng.random(n) < p
            y = np.where(rng.random(n) < kept, x, rng.random(n) < p + 0.1)
            low, high = paired_difference(x, y)
            held.append(low <= 0.1 * (1 - kept) <= high)
        assert np.mean(held) > 0.935


def test_equal_pairs_leave_room_for_a_difference_and_shares_are_pairs_too() -> None:
    x = np.arange(50) < 25
    low, high = paired_difference(x, x)
    assert -0.06 < low < -0.01 and 0.01 < high < 0.06
    shares = np.linspace(0, 1, 50)
    low, high = paired_difference(shares, np.clip(shares + 0.1, 0, 1))
    assert low < (np.clip(shares + 0.1, 0, 1) - shares).mean() < high
    assert paired_difference([0.0], [1.0]) == pytest.approx(paired_difference([False], [True]))
    for given_ in (([], []), ([0.5], [0.5, 0.1]), ([1.5], [0.5])):
        with pytest.raises(ValueError, match="pair"):
            paired_difference(*given_)


@given(more=st.integers(0, 300), less=st.integers(0, 300))
def test_a_sign_test_is_the_exact_binomial_test(more: int, less: int) -> None:
    expected = stats.binomtest(more, more + less).pvalue if more + less else 1.0
    assert sign_test(more, less) == pytest.approx(expected, rel=1e-9)
    assert sign_test(less, more) == sign_test(more, less)


def test_p_values_are_adjusted_as_holm_says() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
