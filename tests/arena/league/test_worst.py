from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.league.cells import Source
from arena.league.grid import grid
from arena.league.matrices import matrices
from arena.league.worst import Worst, chosen_by, cross_fitted, worst_case
from tests.arena.league.made import THREAT, match


def of(*sources: Source, facts: bool = True, left_out: dict[str, str] | None = None) -> Worst:
    """The worst case of the first match's defender."""
    (matrix,) = matrices(list(sources), counts=[100])
    own = grid(matrix.attackers, matrix.defenders, list(matrix.cells.values()))
    nearest = matrix.threat.objective == "minimum"
    found = worst_case(own, matrix.defenders[0], facts, nearest, left_out or {})
    assert found is not None
    return found


def test_of_facts_it_is_the_exact_maximum() -> None:
    found = of(match("a", won=[1, 0, 0, 0]), match("b", won=[0, 1, 1, 0])).figures
    assert found.exact and found.left.value == 0.25
    assert found.strongest == "b" and found.strongest_left.value == 0.5
    assert found.attackers == ("a", "b")
    assert found.chosen == pytest.approx({"a": 0.25 + 0.125, "b": 0.5 + 0.125}), "where none wins, both"


def test_replays_of_an_image_are_attempts_of_their_own() -> None:
    """More replays do not make a defender look worse."""
    replays = {"image": [0, 0], "repeat": [0, 1]}
    assert of(match("a", won=[1, 0], **replays), match("b", won=[0, 0], **replays)).figures.left.value == 0.5


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_the_luckiest_of_many_useless_attackers_is_not_the_bound(noise: float) -> None:
    """60 attackers that find nothing, against a defender that errs at random: what a plain maximum takes for
    the worst case is luck."""
    random = np.random.default_rng(0)
    halves = np.stack([random.binomial((13, 12), noise, (200, 2)) for _ in range(60)])
    found = of(*(match(f"a{i}", won=won, votes=25) for i, won in enumerate(halves)), facts=False).figures
    plain = 1 - (halves.sum(axis=2) / 25).max(axis=0).mean()
    assert plain < 1 - 1.9 * noise, "it doubles the noise"
    assert found.left.low <= 1 - noise <= found.left.high and not found.exact
    assert abs(found.left.value - (1 - noise)) < 0.02


def test_where_attackers_differ_the_strongest_is_found_image_by_image() -> None:
    random = np.random.default_rng(1)
    shares = np.where(random.random((2, 300)) < 0.5, 0.9, 0.1)
    won = [random.binomial((13, 12), p[:, None], (300, 2)) for p in shares]
    found = of(*(match(f"a{i}", won=own, votes=25) for i, own in enumerate(won)), facts=False).figures
    truth = 1 - shares.max(axis=0).mean()
    assert abs(found.left.value - truth) < 0.01
    assert found.left.low <= truth <= found.left.high


def test_it_never_overstates_what_attackers_take() -> None:
    """Whatever the choice, its value is unbiased: over many defenders the mean lies at or above the truth."""
    random = np.random.default_rng(2)
    over = []
    for _ in range(200):
        shares = random.beta(2, 3, (5, 20))
        halves = np.moveaxis(random.binomial(np.array([13, 12]), shares[..., None]) / (13, 12), 2, 0)
        halves = halves.transpose(0, 2, 1)
        left = 1 - cross_fitted(halves, [chosen_by(half) for half in halves])
        over.append(left.mean() - (1 - shares.max(axis=0).mean()))
    mean, error = np.mean(over), np.std(over) / np.sqrt(len(over))
    assert mean > -3 * error and mean < 0.1


tables = st.integers(1, 4).flatmap(
    lambda a: st.lists(
        st.lists(st.tuples(st.integers(0, 13), st.integers(0, 12)), min_size=6, max_size=6),
        min_size=a,
        max_size=a,
    )
)


@given(tables, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_and_copies_of_attackers_change_nothing(
    table: list[list[tuple[int, int]]], shuffle: object
) -> None:
    def left(*tables: list[tuple[int, int]], image: list[int]) -> float:
        made = [match(f"a{i}", won=np.array(won), votes=25, image=image) for i, won in enumerate(tables)]
        return of(*made, facts=False).figures.left.value

    images = list(range(6))
    value = left(*table, image=images)
    assert left(*table, table[0], image=images) == pytest.approx(value)
    turned = [won[::-1] for won in table]
    assert left(*turned, image=images[::-1]) == pytest.approx(value)


def test_attackers_of_other_draws_do_not_count_and_are_named() -> None:
    found = of(
        match("a", won=[0, 0, 0]),
        match("b", won=[1, 0, 0]),
        match("c", won=[1, 1, 1], draw="9"),
        left_out={"x": "why"},
    ).figures
    assert found.attackers == ("a", "b") and found.left.value == pytest.approx(2 / 3)
    assert found.left_out == {"x": "why", "c": "it shares too few games with the other attackers"}


def test_lost_images_are_lost_whoever_attacks() -> None:
    found = of(
        match("a", won=[0, 0], reason=["clean", "budget"]), match("b", won=[0, 0], reason=["clean", "budget"])
    )
    assert found.figures.left.value == 0.5
    np.testing.assert_array_equal(found.left, [0, 1])


def test_of_distances_the_nearest_that_stands() -> None:
    minimum = THREAT.model_copy(update={"objective": "minimum"})
    n = 9
    one = match("a", won=np.ones(n), threat=minimum, linf=np.arange(n) + 1.0)
    other = match("b", won=np.arange(n) % 2, threat=minimum, linf=np.where(np.arange(n) % 2, 0.5, np.inf))
    found = of(one, other)
    np.testing.assert_array_equal(found.distance, [[1, 0.5, 3, 0.5, 5, 0.5, 7, 0.5, 9]])
    assert found.figures.distance is not None and found.figures.distance.value == 1


def test_a_lucky_near_point_is_no_distance() -> None:
    """Near points that lose half of the votes by luck: the half that did not choose them says so."""
    minimum = THREAT.model_copy(update={"objective": "minimum"})
    n = 40
    far = match("far", won=[[13, 12]] * n, votes=25, threat=minimum, linf=np.full(n, 5.0))
    lucky = [[9, 0] if i % 2 else [0, 9] for i in range(n)]
    near = match("near", won=lucky, votes=25, threat=minimum, linf=np.full(n, 0.1))
    found = of(far, near, facts=False)
    assert sorted(np.unique(found.distance)) == [5, np.inf]
    assert found.figures.distance is not None and found.figures.distance.value >= 5
