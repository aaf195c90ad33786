import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.attackers.adaptive.eot import EOT
from agents.attackers.parts.dct import to_frequencies
from agents.attackers.score.simba import SimBA, rings
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)


def constant(x, game, turn):
    """Class 0 with margin 5, whatever is asked."""
    return torch.tensor([5.0, 0.0]).expand(len(x), 2).clone()


def out_of_reach(model):
    """The same slopes, but class 0 is always ahead."""
    return lambda x, game, turn: model(x, game, turn) / 3 + torch.tensor([9.0, 0.0])


def zeros(n):
    return torch.zeros(n, dtype=torch.int64)


def slope(model):
    return model.weight[0] - model.weight[1]


def incumbents(table, game):
    """The incumbent before each query but the first, replayed from the answers."""
    x, margins = table.queries(game), table.margins(game)
    best, found = 0, []
    for t in range(1, len(x)):
        found.append(x[best])
        best = t if margins[t] < margins[best] else best
    return torch.stack(found)


def test_on_a_linear_score_each_pixel_is_moved_against_its_slope_at_one_query_or_two(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    falls_down = slope(model) > 0  # the sign -, asked first, lowers the margin
    budget = 1 + int(falls_down.sum()) + 2 * int((~falls_down).sum())
    table = referee(out_of_reach(model), x0, zeros(3), Threat(epsilon=0.3, budget=budget))
    table.play(SimBA(step=0.05, basis="pixel"))
    for game in range(3):
        x = table.queries(game)
        assert torch.equal(x[0], x0[game])
        changed = (x[1:] - incumbents(table, game)).flatten(1)
        assert (changed.abs() > 0).sum(dim=1).tolist() == [1] * (budget - 1)
        assert torch.allclose(changed.abs().amax(dim=1), torch.tensor(0.05), atol=1e-6)
        end = x[torch.tensor(table.margins(game)).argmin()]
        assert torch.allclose(end, x0[game] - 0.05 * slope(model).sign(), atol=1e-6)
    assert table.volleys == [3] * budget
    assert table.purposes(0) == ["start"] + ["search"] * (budget - 1)


def test_the_sign_plus_is_asked_only_where_minus_has_failed(referee, linear, images):
    model, x0 = linear(SHAPE), images(1, SHAPE, low=0.4, high=0.6)
    table = referee(out_of_reach(model), x0, zeros(1), Threat(epsilon=0.3, budget=25))
    table.play(SimBA(step=0.05, basis="pixel"))
    changed = (table.queries(0)[1:] - incumbents(table, 0)).flatten(1)
    pixel, margins = changed.abs().argmax(dim=1), table.margins(0)
    for t in range(24):
        first = t == 0 or pixel[t] != pixel[t - 1]
        assert (changed[t, pixel[t]] < 0) == first
        if not first:
            assert margins[t] >= min(margins[:t])  # query t is the sign - of this pixel


def test_on_a_linear_score_each_cosine_is_moved_against_its_slope(referee, linear, images):
    shape = (2, 6, 4)
    model, x0 = linear(shape), images(2, shape, low=0.45, high=0.55)
    z = to_frequencies(slope(model), 6, 4)
    budget = 1 + int((z > 0).sum()) + 2 * int((z <= 0).sum())
    table = referee(out_of_reach(model), x0, zeros(2), Threat(norm="l2", epsilon=2.0, budget=budget))
    table.play(SimBA(step=0.02))
    for game in range(2):
        end = table.queries(game)[torch.tensor(table.margins(game)).argmin()]
        assert torch.allclose(to_frequencies(end - x0[game], 6, 4), -0.02 * z.sign(), atol=1e-5)


def vectors(table, game, shape):
    """The cosine of each query but the first, where none is kept."""
    x = table.queries(game)
    return to_frequencies(x[1:] - x[0], *shape[1:]).flatten(1).abs().argmax(dim=1)


def test_orders_are_permutations_of_the_lowest_frequencies_one_for_each_game(referee, images):
    shape = (2, 6, 5)
    table = referee(constant, images(2, shape, low=0.4, high=0.6), zeros(2), Threat(epsilon=0.3, budget=37))
    table.play(SimBA(step=0.05, frequencies=3))
    lowest = [c * 30 + row * 5 + column for c in range(2) for row in range(3) for column in range(3)]
    orders = [vectors(table, game, shape) for game in range(2)]
    for order in orders:
        assert order[::2].equal(order[1::2])  # both signs
        assert sorted(order[::2].tolist()) == lowest
    assert not orders[0].equal(orders[1])


def test_a_strided_order_goes_outwards_ring_by_ring(referee, images):
    shape, rules = (2, 6, 5), SimBA(step=0.05, order="strided", frequencies=1, stride=2)
    ring = rings(shape, rules).view(shape)
    assert ring[0].tolist() == [[0, 1, 1, 2, 2]] + [[1, 1, 1, 2, 2]] * 2 + [[2, 2, 2, 2, 2]] * 2 + [[3] * 5]
    table = referee(constant, images(2, shape, low=0.4, high=0.6), zeros(2), Threat(epsilon=0.3, budget=121))
    table.play(rules)
    for game in range(2):
        order = vectors(table, game, shape)[::2]
        assert sorted(order.tolist()) == list(range(60))
        assert ring.flatten()[order].diff().min() >= 0
        assert not order.equal(order.sort().values)


def test_after_the_last_vector_a_new_order_begins(referee, images):
    shape = (1, 2, 2)
    table = referee(constant, images(1, shape, low=0.4, high=0.6), zeros(1), Threat(epsilon=0.3, budget=81))
    table.play(SimBA(step=0.05, basis="pixel"))
    changed = (table.queries(0)[1:] - table.queries(0)[0]).flatten(1).abs().argmax(dim=1)
    passes = changed[::2].view(10, 4)
    assert passes.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 10
    assert len({tuple(order) for order in passes.tolist()}) > 3


def test_steps_that_the_box_undoes_are_not_asked(referee, images):
    x0 = torch.zeros(1, 1, 4, 4)
    x0[0, 0, 2:] = 1.0
    table = referee(constant, x0, zeros(1), Threat(epsilon=0.3, budget=17))
    table.play(SimBA(step=0.05, basis="pixel"))
    changed = (table.queries(0)[1:] - x0[0]).flatten(1).sum(dim=0)
    assert torch.allclose(changed, torch.tensor([0.05] * 8 + [-0.05] * 8))


def test_where_every_step_is_undone_queries_go_on(referee):
    """At a radius below half a level nothing can be changed."""
    threat = Threat(epsilon=1e-4, budget=9, quantisation="round")
    x0 = torch.full((2, 1, 2, 2), 128 / 255)
    table = referee(constant, x0, zeros(2), threat).play(SimBA(basis="pixel"))
    assert [len(asked) for asked in table.asked] == [9, 9]


def test_in_l2_the_perturbation_is_scaled_to_the_ball_and_goes_on_turning(referee, linear, images):
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.45, high=0.55)
    table = referee(out_of_reach(model), x0, zeros(2), Threat(norm="l2", epsilon=0.12, budget=33))
    table.play(SimBA(step=0.05, basis="pixel"))
    for game in range(2):
        end = table.queries(game)[torch.tensor(table.margins(game)).argmin()] - x0[game]
        moved = end != 0
        assert moved.sum() > 6  # six steps of .05 already reach beyond .12
        assert end.norm() == pytest.approx(0.12, rel=1e-4)
        assert torch.allclose(end[moved].abs(), end.abs().max(), rtol=1e-3)
        assert torch.equal(end[moved].sign(), -slope(model)[moved].sign())


@settings(max_examples=25, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    basis=st.sampled_from(["pixel", "dct"]),
    epsilon=st.floats(0.01, 0.9),
    step=st.floats(0.01, 2.0),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
)
def test_queries_stay_in_ball_and_box(whole_games, norm, basis, epsilon, step, shape):
    threat = Threat(norm=norm, epsilon=epsilon, budget=10, objective="submit")
    for x, x0 in whole_games(SimBA(step=step, basis=basis), threat, shape):
        distance = torch.linalg.vector_norm((x - x0).flatten(1), ord=2 if norm == "l2" else torch.inf, dim=1)
        assert distance.max() <= epsilon + 1e-6
        assert x.min() >= 0 and x.max() <= 1


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("basis", ["pixel", "dct"])
@pytest.mark.parametrize("feedback", ["logits", "probabilities"])
def test_a_classifier_that_is_sure_in_float32_is_broken(referee, linear, images, targeted, basis, feedback):
    """At a margin of 30 the probability is exactly 1."""
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(4, shape, low=0.4, high=0.6)
    w = slope(model)
    far = (x0 - 0.5).mul(w).flatten(1).sum(dim=1)

    def sure(x, game, turn):
        margin = 30 + 100 * (((x - 0.5) * w).flatten(1).sum(dim=1) - far[game])
        z = torch.stack([margin, torch.zeros_like(margin)], dim=1)
        return z if feedback == "logits" else z.softmax(dim=1)

    goal = {"goal": "targeted"} if targeted else {}
    threat = Threat(norm="l2", epsilon=0.5, budget=120, feedback=feedback, **goal)
    assert 100 * 0.5 * w.norm() > 90
    target = torch.ones(4, dtype=torch.int64) if targeted else None
    table = referee(sure, x0, zeros(4), threat, target=target).play(SimBA(step=0.1, basis=basis))
    assert all(table.hits)


def test_targeted_it_raises_the_targets_probability(referee, linear, images):
    model, x0 = linear(SHAPE, classes=4), images(3, SHAPE, low=0.4, high=0.6)
    far = lambda x, game, turn: model(x, game, turn) + torch.tensor([9.0, 0, 0, 0])  # noqa: E731
    target = torch.tensor([1, 2, 3])
    threat = Threat(epsilon=0.3, budget=60, goal="targeted")
    table = referee(far, x0, zeros(3), threat, target=target).play(SimBA(step=0.1, basis="pixel"))
    for game in range(3):
        z = torch.stack([logits for _, _, logits in table.asked[game]])
        p = z.softmax(dim=1)[:, 1 + game]
        kept = [0]
        for t in range(1, len(p)):
            if p[t] > p[kept[-1]]:
                kept.append(t)
        x = table.queries(game)
        assert len(kept) > 8
        for t in range(1, len(p)):
            before = x[[k for k in kept if k < t][-1]]
            assert ((x[t] - before).abs() > 1e-7).sum() == 1


@pytest.mark.parametrize(("convention", "asked"), [("fixed", 60), ("adaptive", 180)])
def test_behind_eot_the_mean_decides(referee, linear, images, convention, asked):
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.4, high=0.6)
    noise = torch.randn(2, 200, generator=torch.Generator().manual_seed(0)) / 10

    def noisy(x, game, turn):
        z = out_of_reach(model)(x, game, turn)
        return z + torch.stack([noise[game, turn], torch.zeros(len(x))], dim=1)

    attack = EOT(of=SimBA(step=0.1, basis="pixel", loss="margin"), repeats=3, convention=convention)
    threat = Threat(epsilon=0.3, budget=60)
    if convention == "adaptive":
        threat = threat.with_budget(60 * attack.budget_factor)
    table = referee(noisy, x0, zeros(2), threat, facts=False).play(attack)
    for game in range(2):
        x = table.queries(game)
        assert len(x) == asked
        means = torch.tensor(table.margins(game)).view(-1, 3).mean(dim=1).tolist()
        assert torch.equal(x[::3], x[1::3]) and torch.equal(x[::3], x[2::3])
        best = 0
        for t in range(1, len(means)):
            assert ((x[3 * t] - x[3 * best]).abs() > 1e-7).sum() == 1
            best = t if means[t] < means[best] else best


def test_a_games_queries_do_not_depend_on_the_batch_or_on_short_volleys(referee, linear, images):
    shape = (2, 5, 3)
    model, x0 = linear(shape, classes=4), images(5, shape)
    every, key = torch.arange(5), torch.tensor([7, 3, 11, 2, 900])
    label = model(x0, every, every).argmax(dim=1)
    threat, attack = Threat(epsilon=0.05, budget=80), SimBA(refresh_every=4)
    together = referee(model, x0, label, threat, key=key, seed=3).play(attack)
    cut = referee(model, x0, label, threat, key=key, seed=3, max_rows=2).play(attack)
    assert max(cut.volleys) == 2
    for game in range(5):
        one = slice(game, game + 1)
        alone = referee(model, x0[one], label[one], threat, key=key[one], seed=3).play(attack)
        assert torch.equal(alone.queries(0), together.queries(game))
        assert torch.equal(cut.queries(game), together.queries(game))


def test_a_refused_answer_is_never_kept(referee, linear, images):
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.4, high=0.6)
    table = referee(model, x0, zeros(2), Threat(epsilon=0.01, budget=30), refuse=lambda game, turn: turn > 1)
    table.play(SimBA(refresh_every=1))
    for game in range(2):
        assert all(torch.equal(x, x0[game]) for x in table.queries(game)[2::2])


def test_under_submit_the_first_hit_is_handed_in(referee, linear, images):
    model, x0 = linear(SHAPE), images(10, SHAPE)
    every = torch.arange(10)
    threat = Threat(epsilon=0.2, budget=60, objective="submit")
    table = referee(model, x0, model(x0, every, every).argmax(dim=1), threat).play(SimBA(basis="pixel"))
    won = [game for game in range(10) if table.hits[game]]
    assert won and set(table.submitted) == set(won)
    for game in won:
        assert table.hits[game] == [len(table.asked[game])]
        assert torch.equal(table.submitted[game], table.queries(game)[-1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 0.0},
        {"basis": "wavelet"},
        {"order": "diagonal"},
        {"order": "strided"},
        {"frequencies": 0},
        {"stride": 0},
        {"refresh_every": -1},
        {"basis": "pixel", "order": "strided"},
        {"basis": "pixel", "frequencies": 3},
    ],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimBA(**wrong)
