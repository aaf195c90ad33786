import math

import pytest
import torch
from scipy.optimize import nnls

from agents.attackers.decision.sign_opt import SignOpt
from agents.attackers.decision.svm_opt import SVMOpt, gram, solve
from agents.attackers.parts.directions import Descent, Directions, normed
from agents.attackers.parts.estimates import unit
from arena.rules.threat import Threat

SHAPE = (1, 12, 12)


def labelled(programs, count, shape, seed=0):
    """Unit directions with the signs that a hidden normal gives them, [programs,count,*shape]."""
    generator = torch.Generator().manual_seed(seed)
    u = unit(torch.randn(programs, count, *shape, generator=generator))
    w = torch.randn(programs, 1, *shape, generator=generator)
    return u * (u * w).flatten(2).sum(dim=2).sign()[..., None, None, None]


def test_inner_products_are_those_of_float64_and_alike_in_any_company():
    columns = labelled(3, 7, (3, 5, 5))
    flat = columns.double().flatten(2)
    assert torch.allclose(gram(columns), flat @ flat.transpose(1, 2), atol=1e-6)
    assert torch.equal(gram(columns)[1:2], gram(columns[1:2]))


@pytest.mark.parametrize("count", [5, 30, 60])
def test_the_program_is_solved(count):
    """All separated: y_q <z, u_q> >= 1, with equality wherever a_q > 0 (the conditions for the least |z|)."""
    columns = labelled(4, count, (1, 7, 7))
    q = gram(columns)
    a = solve(q)
    margin = (q * a.unsqueeze(1)).sum(dim=2)
    assert (a >= 0).all() and (margin >= 1 - 1e-5).all()
    assert (a * (margin - 1)).abs().max() < 1e-4
    assert torch.equal(solve(q[2:3]), a[2:3])


def test_the_solution_is_that_of_a_non_negative_least_squares_solver():
    """min a'Qa/2 - 1'a is |L'a - L^-1 1|^2/2 but for a constant, Q = L L'."""
    q = gram(labelled(2, 20, (1, 8, 8), seed=1))
    for program, a in zip(q, solve(q), strict=True):
        factor = torch.linalg.cholesky(program)
        right = torch.linalg.solve_triangular(factor, torch.ones(20, 1).double(), upper=False)
        expected, _ = nnls(factor.T.numpy(), right.squeeze(1).numpy())
        assert a.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_was_not_answered_has_no_part():
    columns = labelled(1, 6, (1, 6, 6))
    columns[:, 2] = 0
    a = solve(gram(columns))
    assert a[0, 2] == 0
    rest = torch.cat([columns[:, :2], columns[:, 3:]], dim=1)
    assert torch.allclose(torch.cat([a[:, :2], a[:, 3:]], dim=1), solve(gram(rest)), atol=1e-6)


def at_the_plane(referee, procedure, boundary, attacker, norm="l2"):
    """The cosine [G] of an estimate with the gradient of g at an exactly located plane, and the table."""
    games_count = len(boundary.images)
    w = boundary.w / boundary.w.norm()
    noise = torch.randn(games_count, *SHAPE, generator=torch.Generator().manual_seed(2)).double()
    theta = normed((noise / 12 + 0.7 * w).float(), norm)[0]
    slope = (w * theta.double()).flatten(1).sum(dim=1)
    g = boundary.least["l2"] / slope

    def steps(games):
        descent = Descent.start(games, Directions(theta.clone(), g), 0.2, 1e-3)
        return (yield from attacker.gradient(descent, games.open))

    run = procedure(steps)
    threat = Threat(norm=norm, epsilon=math.inf, budget=1000, objective="minimum", feedback="label")
    table = referee(boundary.answer, boundary.images, torch.zeros(games_count).long(), threat, max_rows=300)
    table.play(run)
    length = theta.double().flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    along = theta.double() / length
    truth = -(w - (slope.view(-1, 1, 1, 1) / length) * along)
    return torch.cosine_similarity(run.result.double().flatten(1), truth.flatten(1)), table


def test_it_estimates_the_gradient_as_well_as_sign_opt_or_better(referee, flat_boundary, procedure):
    boundary = flat_boundary(SHAPE, 8)
    found, table = at_the_plane(referee, procedure, boundary, SVMOpt(probes=60))
    mean, _ = at_the_plane(referee, procedure, boundary, SignOpt(probes=60))
    assert found.mean() > mean.mean() - 0.01
    assert max(table.volleys) <= 300
    assert [len(asked) for asked in table.asked] == [60] * 8


def test_it_asks_as_many_probes_as_the_authors_in_either_norm(referee, flat_boundary):
    boundary = flat_boundary(SHAPE, 1)
    for norm, expected in (("l2", 100), ("linf", 200)):
        threat = Threat(norm=norm, epsilon=math.inf, budget=9, objective="minimum", feedback="label")
        seat = referee(boundary.answer, boundary.images, torch.zeros(1).long(), threat).seat
        assert SVMOpt().count(seat) == expected and SVMOpt(probes=7).count(seat) == 7
        u = SVMOpt().directions(seat, 3, torch.arange(1))
        assert torch.allclose(u.flatten(2).norm(dim=2), torch.ones(1, 3))


@pytest.mark.slow
def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary):
    found, result = flat_boundary(SHAPE, 4).ratios(SVMOpt(probes=60, init_draws=20), "l2", 1500, (800,))
    assert all(1 - 1e-6 <= ratio < bound for ratio, bound in zip(found, (1.6, 1.15), strict=True)), found
    assert result.base.all()
