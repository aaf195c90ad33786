from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.league.cells import Source
from arena.league.equilibrium import Cap, NoMixture, equilibrium, solve
from arena.league.grid import Grid, grid
from arena.league.matrices import matrices
from arena.messages import UserError
from tests.arena.league.made import match

payoffs = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.floats(0, 1).map(lambda x: round(x, 3)), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
    ).map(lambda cells: np.array(cells).reshape(shape))
)


def of(*sources: Source) -> Grid:
    (matrix,) = matrices(list(sources), counts=[100])
    return grid(matrix.attackers, matrix.defenders, list(matrix.cells.values()))


def random_grid(seed: int = 0, n: int = 60, attackers: int = 3, defenders: int = 3) -> Grid:
    random = np.random.default_rng(seed)
    shares = random.random((attackers, defenders))
    return of(
        *(
            match(f"a{a}", f"d{d}", random.random(n) < shares[a, d])
            for a in range(attackers)
            for d in range(defenders)
        )
    )


def test_matching_pennies_and_rock_paper_scissors() -> None:
    pennies = solve(np.array([[1.0, 0], [0, 1]]))
    assert pennies.value == pytest.approx(0.5)
    np.testing.assert_allclose([pennies.x, pennies.y], 0.5)
    rock = solve(np.array([[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]]))
    assert rock.value == pytest.approx(0.5)
    np.testing.assert_allclose([rock.x, rock.y], 1 / 3)


def test_two_by_two_in_closed_form() -> None:
    a, b, c, d = 0.9, 0.3, 0.2, 0.6
    found = solve(np.array([[a, b], [c, d]]))
    total = a + d - b - c
    assert found.value == pytest.approx((a * d - b * c) / total)
    np.testing.assert_allclose(found.x, [(d - c) / total, (a - b) / total])
    np.testing.assert_allclose(found.y, [(d - b) / total, (a - c) / total])


def test_a_dominated_defender_and_a_dominated_attacker_take_no_part() -> None:
    found = solve(np.array([[0.9, 0.3, 0.95], [0.2, 0.6, 0.7], [0.1, 0.2, 0.3]]))
    assert found.x[2] == pytest.approx(0) and found.y[2] == pytest.approx(0)


@given(payoffs)
@settings(max_examples=60, deadline=None)
def test_neither_side_gains_by_leaving_its_mixture(m: np.ndarray) -> None:
    found = solve(m)
    assert found.x.sum() == pytest.approx(1) and found.y.sum() == pytest.approx(1)
    assert (found.x @ m).min() == pytest.approx(found.value, abs=1e-7)
    assert (m @ found.y).max() == pytest.approx(found.value, abs=1e-7)


@given(payoffs, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_order_and_copies_change_no_value(m: np.ndarray, shuffle: object) -> None:
    value = solve(m).value
    assert solve(m[::-1, ::-1]).value == pytest.approx(value, abs=1e-7)
    assert solve(np.hstack([m, m[:, :1]])).value == pytest.approx(value, abs=1e-7)
    assert solve(np.vstack([m, m[:1]])).value == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_openspiel_finds_the_same_value(seed: int) -> None:
    pyspiel = pytest.importorskip("pyspiel")
    for solver in ("cvxpy", "ecos"):  # without which it gives None for a solution
        pytest.importorskip(solver)
    lp_solver = pytest.importorskip("open_spiel.python.algorithms.lp_solver")
    m = np.random.default_rng(seed).random((6, 8))
    game = pyspiel.create_matrix_game(m.tolist(), (-m).tolist())
    x, y, value, _ = lp_solver.solve_zero_sum_matrix_game(game)
    found = solve(m)
    assert found.value == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(found.x, np.ravel(x), atol=1e-5)
    np.testing.assert_allclose(found.y, np.ravel(y), atol=1e-5)


def test_a_cap_holds_the_mixture_down_and_the_dual_agrees() -> None:
    """A defender that keeps all but costs 4 may have a quarter of a cap of 1."""
    m = np.array([[1.0, 1.0], [0.2, 0.4]])
    found = solve(m, [Cap("accuracy", np.array([4.0, 0.0]), 1.0)])
    np.testing.assert_allclose(found.x, [0.25, 0.75])
    assert found.value == pytest.approx(0.25 + 0.75 * 0.2) and abs(found.gap) < 1e-9
    loose = solve(m, [Cap("accuracy", np.array([4.0, 0.0]), 5.0)])
    assert loose.value == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_capped_values_are_those_of_a_search(seed: int) -> None:
    random = np.random.default_rng(seed)
    m, price = random.random((2, 3)), np.array([0.0, 2.0])
    share = np.linspace(0, 1, 100_001)
    allowed = share * price[1] <= 0.7
    best = (np.outer(1 - share, m[0]) + np.outer(share, m[1])).min(axis=1)[allowed].max()
    assert solve(m, [Cap("delay", price, 0.7)]).value == pytest.approx(best, abs=1e-4)


def test_caps_that_nobody_keeps_are_told() -> None:
    with pytest.raises(NoMixture, match="no mixture of the defenders keeps to the caps"):
        solve(np.eye(2), [Cap("delay", np.array([2.0, 3.0]), 1.5)])


def test_a_clear_game_is_found_with_its_value() -> None:
    """Pennies: each defender loses every image to one attacker and none to the other."""
    n = 40
    found = equilibrium(
        of(
            match("a", "x", np.zeros(n)),
            match("b", "x", np.ones(n)),
            match("a", "y", np.ones(n)),
            match("b", "y", np.zeros(n)),
        ),
        [],
        {"z": "why"},
    )
    assert [member.share for member in found.defenders] == pytest.approx([0.5, 0.5])
    assert [member.support for member in found.attackers] == [1, 1]
    assert found.value.value == pytest.approx(0.5) and found.value.low < 0.5 < found.value.high
    assert found.exploitability.value == pytest.approx(0, abs=1e-9)
    assert found.pure_value.value == 0 and found.gain.value == pytest.approx(0.5)
    assert found.images == n and found.left_out == {"z": "why"} and abs(found.gap) < 1e-7
    assert "optimal" in found.status.lower()


def test_a_mixture_is_not_valued_on_the_images_that_chose_it() -> None:
    """Of 20 defenders that lose half of the images at random, all mixtures are worth a half, the one that
    looks best too; chosen and valued at once it looks better."""
    random = np.random.default_rng(3)
    said, plain = [], []
    for _ in range(15):
        tables = random.random((1, 20, 60)) < 0.5
        own = of(*(match("a", f"d{d}", tables[0, d]) for d in range(20)))
        said.append(equilibrium(own, [], {}, resamples=1).value.value)
        plain.append(solve((1 - own.by_image.mean(axis=0)).T).value)
    assert abs(np.mean(said) - 0.5) < 0.04
    assert np.mean(plain) > 0.58


def test_support_is_counted_over_resamples_of_images() -> None:
    found = equilibrium(random_grid(1), [], {}, resamples=50)
    for members in (found.defenders, found.attackers):
        assert sum(member.share for member in members) == pytest.approx(1)
        assert all(0 <= member.support <= 1 for member in members)
        assert sum(member.support for member in members) >= 1
    again = equilibrium(random_grid(1), [], {}, resamples=50)
    assert again == found, "the same log gives the same board"


def test_few_images_are_refused() -> None:
    with pytest.raises(UserError, match="only 3 images are in all cells"):
        equilibrium(random_grid(n=3), [], {})
