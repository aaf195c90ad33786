from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import permutation_test

from arena.league import pairs
from arena.league.board import PairTest
from arena.league.pairs import compare, compare_distances, flip_test, pair_tests, ranked
from arena.league.rates import Rate
from arena.statistics import holm, sign_test


def brute(d: np.ndarray) -> float:
    """The share of all 2^n sign patterns with a sum at least as far from 0."""
    signs = np.array(list(product((-1, 1), repeat=len(d))))
    return float((np.abs(signs @ d) >= abs(d.sum()) - 1e-9).mean())


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("steps", [1, 2, 25, 312])
def test_the_flip_test_counts_all_sign_patterns(seed: int, steps: int) -> None:
    random = np.random.default_rng(seed)
    d = np.round(random.uniform(-0.7, 1, random.integers(2, 12)) * steps) / steps
    assert flip_test(d) == pytest.approx(brute(d[d != 0]) if d.any() else 1)


def test_of_yes_and_no_it_is_mcnemars_exact_test() -> None:
    d = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 300)
    assert flip_test(d) == sign_test(9, 2) == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert flip_test(np.zeros(5)) == 1


def test_scipy_agrees() -> None:
    d = np.round(np.random.default_rng(1).normal(0.1, 0.3, 11) * 25) / 25
    found = permutation_test((d,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert flip_test(d) == pytest.approx(found.pvalue)


@pytest.mark.parametrize(("n", "steps", "near"), [(40, 25, 0.02), (300, 25, 0.01), (300, 2, 0.3)])
def test_the_approximation_holds_far_into_the_tails(
    n: int, steps: int, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    for shift in (0, 0.05, 0.1, 0.3):
        d = np.clip(np.round(random.normal(shift, 0.3, n) * steps), -steps, steps) / steps
        told = flip_test(d)
        monkeypatch.setattr(pairs, "EXACT", 0)
        assert abs(math.log(flip_test(d) / told)) < near
        monkeypatch.undo()


def test_values_on_no_grid_are_approximated() -> None:
    d = np.random.default_rng(3).normal(0.15, 0.3, 16)
    assert abs(math.log(flip_test(d) / brute(d))) < 0.1
    assert flip_test(np.abs(d)) == pytest.approx(2**-15), "all of one sign"


def test_equal_agents_are_told_apart_in_at_most_five_of_a_hundred_cases() -> None:
    random = np.random.default_rng(4)
    found = []
    for _ in range(1000):
        p = random.beta(0.3, 0.7, 40)
        found.append(flip_test((random.binomial(25, p) - random.binomial(25, p)) / 25))
    assert np.mean(np.array(found) < 0.05) < 0.07


def test_only_images_of_both_are_compared() -> None:
    found, images, p = compare(np.array([1, 0, np.nan, 1, 0.5]), np.array([0, np.nan, 1, 0, 0.5]))
    assert found.value == pytest.approx(-2 / 3) and images == 3 and p == 0.5
    found, images, p = compare(np.array([np.nan]), np.array([1.0]))
    assert math.isnan(found.value) and images == 0 and p == 1


def test_infinite_distances_are_equal_and_far() -> None:
    one = np.array([[1, 1, np.inf, np.inf, 2, np.nan]])
    other = np.array([[2, np.inf, np.inf, 1, 2, 2]])
    found, images, p = compare_distances(one, other)
    assert images == 5 and found.value == 0 and p == sign_test(2, 1)


def test_distances_by_two_halves_of_the_votes_must_agree() -> None:
    one = np.array([[1.0, 1, 1], [1, 1, 1]])
    other = np.array([[2.0, 2, np.inf], [2, 0.5, 1]])
    *_, p = compare_distances(one, other)
    assert p == sign_test(2, 0)
    assert compare_distances(one[:1], other)[2] == p, "one layer stands for both"


def test_all_pairs_are_adjusted_together() -> None:
    random = np.random.default_rng(5)
    shares = {"a": 0.2, "b": 0.25, "c": 0.6, "d": 0.9}
    values = {name: (random.random(60) < share) * 1.0 for name, share in shares.items()}
    found = pair_tests(values)
    assert [(test.one, test.other) for test in found] == list(combinations("abcd", 2))
    assert [test.adjusted for test in found] == holm([test.p for test in found])


def settled(one: str, other: str, difference: float, adjusted: float) -> PairTest:
    return PairTest(one, other, Rate(difference, difference - 0.1, difference + 0.1), 50, adjusted, adjusted)


FIGURES = {name: Rate(value, 0, 1) for name, value in (("a", 0.2), ("b", 0.5), ("c", 0.6))}


def test_ranks_are_left_open_by_tests_that_settle_nothing() -> None:
    tests = [settled("a", "b", 0.3, 0.01), settled("a", "c", 0.4, 0.001), settled("b", "c", 0.1, 0.3)]
    found = ranked(FIGURES, tests, high_is_best=True)
    assert [(rank.agent, rank.low, rank.high) for rank in found] == [("c", 1, 2), ("b", 1, 2), ("a", 3, 3)]
    found = ranked(FIGURES, tests, high_is_best=False)
    assert [(rank.agent, rank.low, rank.high) for rank in found] == [("a", 1, 1), ("b", 2, 3), ("c", 2, 3)]


def test_nobody_is_settled_above_one_who_met_more() -> None:
    tests = [settled("a", "b", 0.3, 0.01), settled("a", "c", 0.4, 0.001), settled("b", "c", 0.1, 0.3)]
    found = ranked(FIGURES, tests, high_is_best=True, open_pairs={("c", "a"): "it did not meet x"})
    assert [(rank.agent, rank.low, rank.high) for rank in found] == [("c", 1, 3), ("b", 1, 2), ("a", 2, 3)]


def test_agents_without_a_rank_stand_last_with_the_reason() -> None:
    found = ranked(FIGURES, [], high_is_best=True, withheld={"x": "every game failed"})
    assert found[-1].withheld == "every game failed" and found[-1].low == found[-1].high == 0
    assert math.isnan(found[-1].figure.value)
    assert all((rank.low, rank.high) == (1, 3) for rank in found[:-1])
