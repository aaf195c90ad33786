import pytest
import torch

from agents.attackers.parts.claims import REPEAT, THETA, repeats_for
from agents.attackers.parts.estimates import BLOCK
from agents.attackers.parts.finite_differences import gradient, heading, losses, step
from arena.rules.threat import Threat

SHAPE = (2, 3, 4)
GREY = Threat(epsilon=0.5, budget=10_000)
"""No probe near grey images leaves the ball."""
LABELS = torch.zeros(3, dtype=torch.int64)
COUNT, RADIUS = 11, 0.01


def ahead(model, by=100.0):
    """Class 0 is far ahead, with the same slopes."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([by, 0.0])


def bowl(x, game, turn):
    """The margin 5 + sum_k k (x_k - .4)^2."""
    weight = torch.arange(1.0, 1 + x[0].numel(), dtype=torch.float64)
    value = 5 + (weight * (x.double() - 0.4).flatten(1).square()).sum(dim=1)
    return torch.stack([value, torch.zeros_like(value)], dim=1).double()


def normals(games, i):
    return lambda rows: games.normal((BLOCK, *games.x0.shape[1:]), i[rows])


def estimating(base=None, count=COUNT, radius=RADIUS, loss="margin", i=None):
    """A procedure that estimates the gradient at the clean images."""

    def steps(games):
        own = games.open if i is None else i
        return (
            yield from gradient(games, games.x0[own], own, count, normals(games, own), radius, loss, base)
        )

    return steps


def drawn(seat, count=COUNT):
    """The directions [G,count,C,H,W] that a fresh seat deals."""
    blocks = [seat.normal((BLOCK, *SHAPE)) for _ in range(-(-count // BLOCK))]
    return torch.cat(blocks, dim=1)[:, :count]


def mean_of(slope, u):
    """mean_b slope_b u_b."""
    return (slope[..., None, None, None] * u).mean(dim=1)


@pytest.fixture
def estimate(referee, images, procedure):
    """estimate(model, ...): the table, the estimate, and the directions that were drawn."""

    def make(model, steps=None, threat=GREY, count=COUNT, **more):
        x0, run = images(3, SHAPE, low=0.4, high=0.6), procedure(steps or estimating(count=count))
        table = referee(model, x0, LABELS, threat, **more).play(run)
        return table, run.result, drawn(referee(model, x0, LABELS, threat, **more).seat, count)

    return make


@pytest.mark.parametrize("both_sides", [True, False])
def test_a_linear_loss_gives_the_mean_of_its_projections(estimate, linear, both_sides):
    """mean (w u) u, for the w of the loss."""
    model = linear(SHAPE)
    w = model.weight[0] - model.weight[1]
    x0 = estimate(ahead(model))[0].x0
    base = None if both_sides else 100 + ((x0 - 0.5) * w).flatten(1).sum(dim=1)
    table, g, u = estimate(ahead(model), estimating(base))
    expected = mean_of((u * w).flatten(2).sum(dim=2), u)
    assert torch.allclose(g, expected, atol=2e-3)  # rounding of losses of 100 over a radius of .01
    each = 2 if both_sides else 1
    assert table.volleys == [3 * COUNT * each]
    for game in range(3):
        assert table.purposes(game) == ["gradient"] * COUNT * each
        probes = table.queries(game).view(COUNT, each, *SHAPE)
        assert torch.allclose(probes[:, 0], x0[game] + RADIUS * u[game], atol=1e-6)
        assert torch.allclose(probes[:, -1], x0[game] + (1 - 2 * both_sides) * RADIUS * u[game], atol=1e-6)


def test_both_sides_cancel_the_even_part_of_the_loss_and_one_side_does_not(estimate):
    """(L(x + r u) - L(x)) / r = grad u + r sum k u_k^2 in a bowl; the difference of both sides is grad u."""
    weight = torch.arange(1.0, 25, dtype=torch.float64).view(SHAPE)
    x0 = estimate(bowl)[0].x0.double()
    base = bowl(x0, None, None)[:, 0]
    slopes = 2 * weight * (x0 - 0.4)
    for known in (None, base):
        _, g, u = estimate(bowl, estimating(known, radius=0.05))
        along = (slopes.unsqueeze(1) * u).flatten(2).sum(dim=2)
        bent = 0.05 * (weight * u.double().square()).flatten(2).sum(dim=2)
        expected = mean_of(along if known is None else along + bent, u)
        assert torch.allclose(g.double(), expected, rtol=1e-3, atol=1e-2)
        assert (mean_of(bent, u).abs() > 0.1).any()


def test_each_direction_may_have_a_base_of_its_own(estimate, linear):
    """A base that is too high by b_k at direction k takes b_k / radius u_k off the sum."""
    model = ahead(linear(SHAPE))
    table, both, u = estimate(model)
    base = model(table.x0, None, None)[:, :1] - model(table.x0, None, None)[:, 1:]
    extra = 0.3 * torch.arange(COUNT).expand(3, -1)
    _, g, _ = estimate(model, estimating(base + extra))
    assert torch.allclose(g, both - mean_of(extra / RADIUS, u), atol=1e-2)


@pytest.mark.parametrize("budget", [15, 60])
@pytest.mark.parametrize("both_sides", [True, False])
def test_neither_the_batch_nor_the_length_of_volleys_changes_a_bit(
    referee, images, procedure, linear, both_sides, budget
):
    model, x0, key = ahead(linear(SHAPE)), images(3, SHAPE), torch.tensor([7, 900, 3])
    base = None if both_sides else torch.full((3,), 99.0)
    threat = Threat(norm="l2", epsilon=0.05, budget=budget)

    def play(rows, **more):
        run = procedure(estimating(None if base is None else base[rows], count=20))
        table = referee(model, x0[rows], LABELS[rows], threat, key=key[rows], seed=5, **more).play(run)
        assert {len(asked) for asked in table.asked} == {min(budget, 40 if both_sides else 20)}
        return run.result

    whole = play(slice(None))
    assert whole.abs().min(dim=0).values.max() > 0
    for most in (100, 33, 9, 1):
        assert torch.equal(play(slice(None), max_rows=most), whole)
    for game in range(3):
        assert torch.equal(play(slice(game, game + 1))[0], whole[game])


@pytest.mark.parametrize(("most", "games"), [(4096, 3), (32, 2), (16, 1), (3, 1)])
def test_no_more_directions_are_drawn_at_once_than_a_volley_has_room_for(
    referee, images, procedure, linear, most, games
):
    """Of one game at least a block: at 224 pixels those of all games at once are gigabytes."""
    drawn_for = []

    def steps(seat):
        def directions(rows):
            drawn_for.append(len(rows))
            return normals(seat, torch.arange(3))(rows)

        return (yield from gradient(seat, seat.x0, torch.arange(3), 8, directions, RADIUS, "margin"))

    x0 = images(3, SHAPE, low=0.4, high=0.6)
    table = referee(ahead(linear(SHAPE)), x0, LABELS, GREY, max_rows=most).play(procedure(steps))
    assert max(drawn_for) == games and sum(drawn_for) == 3
    assert [len(asked) for asked in table.asked] == [16] * 3


@pytest.mark.parametrize(("budget", "pairs"), [(7, 3), (2, 1), (1, 0), (22, 11)])
def test_the_mean_is_over_the_whole_differences_that_the_budget_reaches(estimate, linear, budget, pairs):
    model = linear(SHAPE)
    w = model.weight[0] - model.weight[1]
    table, g, u = estimate(ahead(model), threat=GREY.with_budget(budget))
    assert [len(asked) for asked in table.asked] == [budget] * 3
    u = u[:, :pairs]
    expected = mean_of((u * w).flatten(2).sum(dim=2), u) if pairs else torch.zeros(3, *SHAPE)
    assert torch.allclose(g, expected, atol=2e-3)


def test_differences_with_a_refusal_are_left_out(estimate, linear):
    model = linear(SHAPE)
    w = model.weight[0] - model.weight[1]
    _, g, u = estimate(ahead(model), refuse=lambda game, turn: game == 1 and turn in (1, 4))
    u = u[1, 2:].unsqueeze(0)
    assert torch.allclose(g[1], mean_of((u * w).flatten(2).sum(dim=2), u)[0], atol=2e-3)


@pytest.mark.parametrize("max_rows", [4096, 7])
def test_without_a_base_the_first_probe_that_was_answered_stands_for_it(estimate, linear, max_rows):
    """(w u_b - w u_2) u_b: without the iterate's answer the directions still tell which way to go."""
    model = linear(SHAPE)
    w = model.weight[0] - model.weight[1]
    refused = {"refuse": lambda game, turn: game == 1 and turn == 1, "max_rows": max_rows}
    unknown = torch.tensor([99.0, torch.inf, 99.0])
    _, g, u = estimate(ahead(model), estimating(unknown, count=19), count=19, **refused)
    along = (u[1:2] * w).flatten(2).sum(dim=2)
    expected = mean_of(along[:, 1:] - along[:, 1:2], u[1:2, 1:])
    assert torch.allclose(g[1], expected[0], atol=5e-3)
    _, none, _ = estimate(ahead(model), estimating(unknown), refuse=lambda game, turn: game == 1)
    assert (none[1] == 0).all() and (none[0] != 0).any()


def test_games_that_are_over_are_not_asked(estimate, linear):
    def steps(games):
        yield from games.resign(torch.tensor([1]))
        return (yield from estimating(i=torch.arange(3))(games))

    table, g, _ = estimate(ahead(linear(SHAPE)), steps)
    assert [len(asked) for asked in table.asked] == [2 * COUNT, 0, 2 * COUNT]
    assert (g[1] == 0).all()


def test_probes_stay_in_the_ball(estimate, linear):
    for norm, epsilon in (("linf", 0.004), ("l2", 0.02)):
        threat = Threat(norm=norm, epsilon=epsilon, budget=99)
        table, _, _ = estimate(ahead(linear(SHAPE)), threat=threat)
        for game in range(3):
            delta = (table.queries(game) - table.x0[game]).flatten(1)
            assert delta.norm(p=2 if norm == "l2" else torch.inf, dim=1).max() <= epsilon + 1e-6


# Hits


def dips(x, game, turn):
    """Class 0 by 1, but wrong by 2 and by 5 at the fourth and sixth query of the first game."""
    margin = torch.ones(len(x))
    margin[(game == 0) & (turn == 4)], margin[(game == 0) & (turn == 6)] = -2.0, -5.0
    return torch.stack([margin, torch.zeros(len(x))], dim=1)


def test_of_the_hits_in_a_volley_that_with_the_lowest_loss_is_handed_in(estimate):
    """A volley holds one block of each game, in whatever company and volleys."""
    threat = Threat(epsilon=0.5, budget=99, objective="submit")
    for most in (4096, 40, 7):
        table, _, _ = estimate(dips, threat=threat, max_rows=most)
        assert list(table.submitted) == [0]
        assert torch.equal(table.submitted[0], table.queries(0)[5])
        assert [note for note in table.notes if note[0] == "accepted"] == [("accepted", 0, 2 * BLOCK)]
        assert [len(asked) for asked in table.asked] == [2 * BLOCK, 2 * COUNT, 2 * COUNT]


def test_the_first_hit_ends_a_game_where_it_counts(estimate):
    table, _, _ = estimate(dips)
    assert [len(asked) for asked in table.asked] == [4, 2 * COUNT, 2 * COUNT]
    assert [note[:2] for note in table.notes] == [("accepted", 0)]


def test_where_answers_are_no_facts_a_hit_is_asked_again(estimate):
    """Its repeats are answered as wrong as any, so that it is handed in after the fixed number of them."""

    def model(x, game, turn):
        margin = torch.where((game == 0) & (turn >= 2 * COUNT), -1.0, 1.0)
        return torch.stack([margin, torch.zeros(len(x))], dim=1)

    def steps(games):
        for _ in range(30):  # repeats may cost a quarter of the queries so far
            i = games.open
            yield from gradient(games, games.x0[i], i, COUNT, normals(games, i), RADIUS, "margin")

    threat = Threat(epsilon=0.5, budget=2000, objective="submit")
    table, _, _ = estimate(model, steps, threat=threat, facts=False)
    assert list(table.submitted) == [0]
    repeats = [k for k, purpose in enumerate(table.purposes(0)) if purpose == REPEAT]
    assert len(repeats) == repeats_for(THETA)
    assert len({tuple(table.queries(0)[k].flatten().tolist()) for k in repeats}) == 1
    assert torch.equal(table.submitted[0], table.queries(0)[repeats[0]])
    assert REPEAT not in table.purposes(1)
    assert len(table.claims[0]) >= 1

    luck, _, _ = estimate(dips, steps, threat=threat, facts=False)
    assert not luck.submitted
    assert luck.purposes(0).count(REPEAT) == 1  # answered rightly at once


def test_losses_are_those_answered_each_asked_once(estimate, linear):
    model = ahead(linear(SHAPE))

    def steps(games):
        images = torch.stack([games.x0, 0.9 * games.x0], dim=1)
        return (yield from losses(games, images[:2], torch.tensor([0, 2]), "margin", "look"))

    table, found, _ = estimate(model, steps, refuse=lambda game, turn: game == 2 and turn == 2)
    assert table.purposes(0) == table.purposes(2) == ["look"] * 2 and not table.asked[1]
    assert found[0].tolist() == pytest.approx(table.margins(0), abs=1e-4)
    assert found[1, 0] == pytest.approx(table.margins(2)[0], abs=1e-4) and found[1, 1] == torch.inf


# Steps


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_goes_against_the_gradient_and_ends_in_the_ball(referee, images, linear, norm):
    x0, g = images(3, SHAPE, low=0.4, high=0.6), images(3, SHAPE, low=-1.0, seed=3)
    g[0, 0, 0, 0], g[2] = 0.0, 0.0
    threat = Threat(norm=norm, epsilon=0.1, budget=9)
    games, i = referee(linear(SHAPE), x0, LABELS, threat).seat, torch.tensor([0, 2, 1])
    way = g.sign() if norm == "linf" else g / g.flatten(1).norm(dim=1).clamp_min(1e-9).view(-1, 1, 1, 1)
    for eta in (0.03, torch.tensor([0.01, 0.05, 0.02])):
        size = torch.as_tensor(eta).expand(3).view(3, 1, 1, 1)
        assert torch.allclose(step(games, x0[i], g, i, eta), x0[i] - size * way, atol=1e-6)
    far = step(games, x0[i], g, i, 5.0) - x0[i]
    order = 2 if norm == "l2" else torch.inf
    assert far.flatten(1).norm(p=order, dim=1).tolist() == pytest.approx([0.1, 0.1, 0.0], abs=1e-5)


def test_a_heading_has_length_one_however_short_the_gradient_is(images):
    g = images(3, SHAPE, low=-1.0)
    scale = torch.tensor([1.0, 1e-30, 0.0]).view(3, 1, 1, 1)
    assert torch.equal(heading(scale * g)[2], torch.zeros(SHAPE))
    assert heading(g * scale)[:2].flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert torch.allclose(heading(1e-30 * g), heading(g), atol=1e-5)
