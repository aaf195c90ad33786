import math

import pytest
import torch

from agents.attackers.parts.directions import (
    Descent,
    Directions,
    find_direction,
    local_search,
    normed,
    place,
)
from arena.players.seat import Resources
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)
LABEL = {norm: torch.inf if norm == "linf" else 2 for norm in ("l2", "linf")}


def rules(norm="l2", budget=100_000, **more):
    return Threat(norm=norm, epsilon=math.inf, budget=budget, objective="minimum", feedback="label", **more)


def table_of(referee, boundary, threat, **more):
    return referee(boundary.answer, boundary.images, torch.zeros(len(boundary.images)).long(), threat, **more)


def distance_along(boundary, x0, theta):
    """g(theta) [n] where the box does not matter: the plane's margin over the slope of w along theta."""
    margin = boundary.b - boundary.side(x0)
    slope = (boundary.w * theta.double()).flatten(1).sum(dim=1)
    return torch.where(slope > 0, margin / slope, torch.inf)


def uphill(boundary, games, share=0.7, norm="l2", seed=3):
    """Directions [games,C,H,W] that go towards the plane."""
    noise = torch.randn(games, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()
    noise /= noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return normed((share * boundary.w / boundary.w.norm() + noise).float(), norm)[0]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_directions_have_unit_length_and_zero_stays(norm):
    v = torch.randn(3, 5, *SHAPE, generator=torch.Generator().manual_seed(0))
    v[1, 2] = 0
    theta, length = normed(v, norm)
    expected = torch.linalg.vector_norm(v.double().flatten(2), ord=LABEL[norm], dim=2)
    assert torch.allclose(length, expected, rtol=1e-6)
    one = torch.linalg.vector_norm(theta.double().flatten(2), ord=LABEL[norm], dim=2)
    assert torch.allclose(one, (expected > 0).double(), atol=1e-6)


def test_a_large_image_alone_gets_the_bits_that_it_gets_in_company():
    v = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(normed(v, "l2")[0][1:2], normed(v[1:2], "l2")[0])
    finally:
        torch.set_num_threads(before)


# Local search


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("factor", "steps"), [(1.0001, 1), (0.9999, 1), (0.55, 61), (1.8, 59)])
def test_a_local_search_finds_g_from_either_side_at_the_cost_of_the_fact_sheet(
    referee, flat_boundary, procedure, norm, factor, steps
):
    """One query where it begins, ln(ratio) / ln(1.01) steps, log2(bracket / width) halvings."""
    boundary = flat_boundary(SHAPE, 4)
    theta = uphill(boundary, 4, norm=norm)
    g = distance_along(boundary, boundary.images, theta)
    width = 2e-6 if norm == "l2" else 2e-7

    def steps_of(games):
        i = games.open
        return (yield from local_search(games, theta, factor * g, i, torch.full_like(g, width), "step"))

    run = procedure(steps_of)
    table = table_of(referee, boundary, rules(norm)).play(run)
    assert torch.all((run.result - g) <= width + 1e-6 * g)
    assert torch.all((run.result - g) >= -1e-6 * g)
    for game in range(4):
        halvings = math.ceil(math.log2(0.01 * float(g[game]) / width))
        assert 1 + steps + halvings - 2 <= len(table.asked[game]) <= 1 + steps + halvings + 2
        assert set(table.purposes(game)) == {"step"}


def test_a_direction_that_leads_nowhere_is_infinitely_far_and_bounded_in_queries(
    referee, flat_boundary, procedure
):
    boundary = flat_boundary(SHAPE, 2)
    theta = -uphill(boundary, 2)
    run = procedure(
        lambda games: local_search(
            games,
            theta,
            torch.tensor([5.0, 0.1]).double(),
            games.open,
            torch.full((2,), 1e-6).double(),
            "step",
        )
    )
    table = table_of(referee, boundary, rules()).play(run)
    assert run.result.isinf().all()
    # From 5 the reach of 20 is left after ln 4 / ln 1.01 steps; from 0.1 the 300 steps are over first.
    assert [len(asked) for asked in table.asked] == [1 + 139, 1 + 300]


def test_where_all_is_adversarial_the_nearest_point_seen_is_returned(referee, flat_boundary, procedure):
    boundary = flat_boundary(SHAPE, 1)
    theta = uphill(boundary, 1)
    width = torch.full((1,), 1e-6).double()
    run = procedure(
        lambda games: local_search(games, theta, torch.ones(1).double(), games.open, width, "step")
    )

    def wrong(x, game, turn):
        return torch.tensor([[0.0, 1.0]]).expand(len(x), 2)

    table = referee(wrong, boundary.images, torch.zeros(1).long(), rules()).play(run)
    assert float(run.result) == pytest.approx(0.99**300, rel=1e-12)
    assert len(table.asked[0]) == 301


# Where to begin


def along_ray(boundary, x0, v, norm):
    """The least lambda at which x0 + lambda v / |v| is adversarial, by float64 bisection; inf if v is not."""
    length = float(torch.linalg.vector_norm(v.double().flatten(), ord=LABEL[norm]))

    def fools(radius):
        x = (x0.double() + radius / length * v.double()).clamp(0, 1)
        return float(boundary.side(x.unsqueeze(0))) > float(boundary.b)

    low, high = 0.0, length
    if not fools(high):
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if fools(middle) else (middle, high)
    return high


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_nearest_of_the_draws_is_where_it_begins(referee, flat_boundary, procedure, norm):
    boundary, draws = flat_boundary(SHAPE, 3), 12
    seat = table_of(referee, boundary, rules(norm)).seat
    noise = [seat.normal(SHAPE) for _ in range(draws)]
    run = procedure(lambda games: find_direction(games, draws))
    table = table_of(referee, boundary, rules(norm)).play(run)
    for game, x0 in enumerate(boundary.images):
        found = [along_ray(boundary, x0, v[game], norm) for v in noise]
        assert run.result.g[game] == pytest.approx(min(found), abs=1.1e-5)
        best = noise[found.index(min(found))][game]
        assert torch.allclose(run.result.theta[game], normed(best, norm)[0], atol=1e-6)
        # Each draw is asked once; only those nearer than the best so far are searched.
        assert table.purposes(game).count("start") == draws
        assert len(table.asked[game]) <= 2 * draws + 24 * sum(
            f == min(found[: k + 1]) and math.isfinite(f) for k, f in enumerate(found)
        )


def test_only_games_that_all_draws_failed_draw_again_and_those_without_are_resigned(
    referee, flat_boundary, procedure
):
    boundary = flat_boundary(SHAPE, 3)

    def sometimes(x, game, turn):
        """Game 0 as ever; game 1 is fooled from its sixth query on; game 2 never."""
        logits = boundary(x)
        logits[(game == 2) | ((game == 1) & (turn < 6)), 1] = -1
        logits[(game == 1) & (turn >= 6), 1] = 1
        return logits

    run = procedure(lambda games: find_direction(games, 4, retries=3))
    boundary.b -= 0.25 * boundary.w.norm()
    table = referee(sometimes, boundary.images, torch.zeros(3).long(), rules()).play(run)
    assert [table.purposes(game).count("start") for game in range(3)] == [4, 7, 7]
    assert run.result.g.isfinite().tolist() == [True, True, False]
    assert table.open.tolist() == [True, True, False]


def test_targeted_it_goes_towards_the_given_start_and_images_of_the_target(referee, flat_boundary, procedure):
    boundary = flat_boundary(SHAPE, 2)
    towards = (boundary.w.sign() * 0.2).float()
    starts = (boundary.images + 0.9 * boundary.w.sign().float()).clamp(0, 1)
    # One image of the target class straight ahead, one of the other class, one that the service calls 0.
    own = torch.stack([boundary.images[0] + towards, boundary.images[0] + towards, boundary.images[0]])
    table = table_of(referee, boundary, rules(goal="targeted"), target=torch.ones(2).long())
    table.seat.resources = Resources(images=own, labels=torch.tensor([1, 0, 1]), starts=starts)
    run = procedure(lambda games: find_direction(games, 100))
    table.play(run)
    for game, x0 in enumerate(boundary.images):
        found = [along_ray(boundary, x0, v - x0, "l2") for v in (starts[game], own[0])]
        assert run.result.g[game] == pytest.approx(min(found), abs=1.1e-5)
        assert table.purposes(game).count("start") == 3


def test_the_fallback_starts_towards_an_image_granted(referee, flat_boundary, procedure):
    boundary = flat_boundary(SHAPE, 2)
    boundary.b += 2.0 * boundary.w.norm()  # far beyond noise
    image = (0.5 + 0.5 * boundary.w.sign()).float()
    table = table_of(referee, boundary, rules())
    table.seat.resources = Resources(images=image.unsqueeze(0), labels=torch.ones(1).long())
    run = procedure(lambda games: find_direction(games, 3, fallback=True))
    table.play(run)
    for game, x0 in enumerate(boundary.images):
        assert run.result.g[game] == pytest.approx(along_ray(boundary, x0, image - x0, "l2"), abs=1.1e-5)


# Line search


def reference_line_search(g_of, theta, g, gradient, alpha):
    """As the fact sheet puts it, for one image, in float64: theta, g and alpha afterwards."""
    best, best_g = theta, g
    for _ in range(15):
        trial = theta - alpha * gradient
        trial = trial / trial.norm()
        found = g_of(trial)
        alpha *= 2
        if found >= best_g:
            break
        best, best_g = trial, found
    if best_g >= g:
        for _ in range(15):
            alpha /= 4
            trial = theta - alpha * gradient
            trial = trial / trial.norm()
            found = g_of(trial)
            if found < g:
                best, best_g = trial, found
                break
    return best, best_g, alpha


def test_the_line_search_is_the_fact_sheets_for_each_game_by_itself(referee, flat_boundary, procedure):
    """Step sizes from minute to huge, gradients that lead down, up, and nowhere."""
    boundary, games_count = flat_boundary(SHAPE, 6), 6
    theta = uphill(boundary, games_count)
    start = distance_along(boundary, boundary.images, theta)
    down = -uphill(boundary, games_count, share=2.0, seed=5)
    down[3] *= -1
    down[5] = uphill(boundary, 1, share=0.0, seed=9)[0]
    alpha = torch.tensor([1e-3, 0.2, 50.0, 0.2, 3.0, 0.5], dtype=torch.float64)

    def steps(games):
        best = Directions(theta.clone(), start * (1 + 1e-7))
        descent = Descent(games, best, alpha.clone(), torch.full_like(start, 1e-3), 1e-8)
        yield from descent.line_search(down, games.open)
        return descent

    run = procedure(steps)
    table_of(referee, boundary, rules()).play(run)
    for game in range(games_count):

        def g_of(t, game=game):
            x0 = boundary.images[game : game + 1]
            return float(distance_along(boundary, x0, t.unsqueeze(0)))

        expected = reference_line_search(
            g_of, theta[game].double(), float(start[game]), down[game].double(), float(alpha[game])
        )
        descent = run.result
        if expected[2] < 1e-5:  # nothing improved, until the width of searches hides whether anything does
            assert float(descent.alpha[game]) < 1e-4
            continue
        assert float(descent.alpha[game]) == pytest.approx(expected[2], rel=1e-12), game
        assert float(descent.best.g[game]) == pytest.approx(expected[1], abs=4e-6), game
        assert torch.allclose(descent.best.theta[game].double(), expected[0], atol=1e-5), game


@pytest.mark.parametrize(
    ("norm", "goal", "threshold"),
    [("l2", "untargeted", 1e-4), ("linf", "untargeted", 1e-6), ("linf", "targeted", 1e-4)],
)
def test_minute_steps_go_on_at_a_tenth_of_beta_until_it_is_below_the_least(
    referee, flat_boundary, procedure, norm, goal, threshold
):
    boundary = flat_boundary(SHAPE, 3)

    def steps(games):
        best = Directions(games.x0.clone(), torch.ones(3).double())
        descent = Descent.start(games, best, 0.2, 1e-3)
        descent.alpha[:] = torch.tensor([1.01, 0.99, 0.99]).double() * threshold
        descent.beta[2] = 9e-8
        yield from descent.refine(games.open)
        return descent

    run = procedure(steps)
    target = torch.ones(3).long() if goal == "targeted" else None
    table = table_of(referee, boundary, rules(norm, goal=goal), target=target).play(run)
    assert run.result.alpha.tolist() == pytest.approx([1.01 * threshold, 1.0, 1.0], rel=1e-6)
    assert run.result.beta.tolist() == pytest.approx([1e-3, 1e-4, 9e-9])
    assert table.open.tolist() == [True, True, False]


def test_probes_lie_at_distance_g_in_directions_turned_by_beta(referee, flat_boundary):
    boundary = flat_boundary(SHAPE, 2)
    theta = uphill(boundary, 2)
    games = table_of(referee, boundary, rules()).seat
    g = torch.tensor([0.3, 0.2]).double()
    descent = Descent.start(games, Directions(theta, g), 0.2, 1e-2)
    u, _ = normed(torch.randn(2, 5, *SHAPE, generator=torch.Generator().manual_seed(1)), "l2")
    turned = theta.unsqueeze(1).double() + 1e-2 * u.double()
    turned /= turned.flatten(2).norm(dim=2)[..., None, None, None]
    expected = boundary.images.unsqueeze(1) + g.view(-1, 1, 1, 1, 1) * turned
    probes = descent.probes(u, torch.arange(2))
    assert torch.allclose(probes.double(), expected, atol=1e-6)
    assert torch.equal(descent.image(torch.arange(2)), place(games, theta, g, torch.arange(2)))
