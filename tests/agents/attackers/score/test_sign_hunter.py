import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.attackers.adaptive.eot import EOT
from agents.attackers.score.sign_hunter import SignHunter, chunks
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)
PASS = 1 + 2 + 4 + 8 + 16
"""Flips of a pass over 16 signs."""


def constant(x, game, turn):
    """Class 0 with margin 5, whatever is asked."""
    return torch.tensor([5.0, 0.0]).expand(len(x), 2).clone()


def out_of_reach(model):
    """The same slopes, but class 0 is always far ahead."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([30.0, 0.0])


def zeros(n):
    return torch.zeros(n, dtype=torch.int64)


def slope(model):
    return model.weight[0] - model.weight[1]


def replay(x0, margins, epsilon):
    """Algorithm 2 around `x0` [C,H,W], in plain Python: the images of a pass, told their margins."""
    d = x0.numel()
    sign, best, expected = [1.0] * d, 0, []

    def image():
        s = torch.tensor(sign).view(*x0.shape[1:], x0.shape[0]).permute(2, 0, 1)  # rows, columns, channels
        return (x0 + epsilon * s).clamp(0, 1)

    expected.append(image())
    for h in range(math.ceil(math.log2(d)) + 1):
        size = math.ceil(d / 2**h)
        for begin in range(0, d, size):
            place = range(begin, min(d, begin + size))
            for k in place:
                sign[k] *= -1
            expected.append(image())
            t = len(expected) - 1
            if margins[t] <= margins[best]:
                best = t
            else:
                for k in place:
                    sign[k] *= -1
    return torch.stack(expected)


def test_the_flips_of_a_pass():
    assert [(c.start, c.stop) for c in chunks(5)] == [
        (0, 5), (0, 3), (3, 6), (0, 2), (2, 4), (4, 6), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5),
    ]  # fmt: skip
    assert len(chunks(16)) == PASS
    assert len(chunks(1)) == 1
    assert len(chunks(3072)) == 6655  # CIFAR-10, 13 levels
    assert len(chunks(3 * 224 * 224)) == 337_201


def test_on_a_linear_score_a_pass_ends_at_the_sign_of_the_slope(referee, linear, images):
    """32 queries for 16 signs: one for the first image, one for each flip."""
    model, x0 = linear(SHAPE), images(4, SHAPE, low=0.2, high=0.8)
    table = referee(out_of_reach(model), x0, zeros(4), Threat(epsilon=0.1, budget=1 + PASS))
    table.play(SignHunter())
    for game in range(4):
        x = table.queries(game)
        assert len(x) == 32
        assert torch.equal(x[0], x0[game] + 0.1)
        end = x[torch.tensor(table.margins(game)).argmin()]
        assert torch.allclose(end, x0[game] - 0.1 * slope(model).sign(), atol=1e-6)
    assert table.purposes(0) == ["start"] + ["search"] * PASS
    assert table.volleys == [4] * 32


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 3, 2), (2, 5, 1)])
def test_each_image_is_that_of_algorithm_2(referee, linear, images, shape):
    model, x0 = linear(shape), images(2, shape)
    budget = 1 + len(chunks(x0[0].numel()))
    table = referee(out_of_reach(model), x0, zeros(2), Threat(epsilon=0.1, budget=budget))
    table.play(SignHunter(loss="margin"))
    for game in range(2):
        expected = replay(x0[game], table.margins(game), 0.1)
        assert torch.allclose(table.queries(game), expected, atol=1e-7)


def test_a_chunk_is_a_band_of_rows_with_all_channels(referee, images):
    x0 = images(1, (3, 4, 2), low=0.4, high=0.6)
    table = referee(constant, x0, zeros(1), Threat(epsilon=0.1, budget=4)).play(SignHunter())
    x = table.queries(0)
    assert torch.allclose(x[1], x0[0] - 0.1)
    upper = x[2] - x[1]  # the first flip was a tie and stayed
    assert (upper[:, :2] > 0.1).all() and (upper[:, 2:] == 0).all()
    lower = x[3] - x[2]
    assert (lower[:, :2] == 0).all() and (lower[:, 2:] > 0.1).all()


def test_in_l2_every_sign_is_as_long_and_the_whole_as_long_as_the_ball(referee, linear, images):
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.3, high=0.7)
    table = referee(out_of_reach(model), x0, zeros(2), Threat(norm="l2", epsilon=0.8, budget=1 + PASS))
    table.play(SignHunter())
    for game in range(2):
        delta = table.queries(game) - x0[game]
        assert torch.allclose(delta.abs(), torch.tensor(0.8 / 4), atol=1e-5)
        end = delta[torch.tensor(table.margins(game)).argmin()]
        assert torch.equal(end.sign(), -slope(model).sign())


def test_after_the_last_level_it_begins_again_where_it_is(referee, linear, images):
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.3, high=0.7)
    table = referee(out_of_reach(model), x0, zeros(2), Threat(epsilon=0.1, budget=2 + 2 * PASS))
    table.play(SignHunter())
    for game in range(2):
        x, margins = table.queries(game), table.margins(game)
        vertex = x0[game] - 0.1 * slope(model).sign()
        begin = torch.minimum(vertex + 0.1, x0[game] + 0.1)
        assert torch.allclose(x[1 + PASS], begin, atol=1e-6)
        assert margins[1 + PASS] > min(margins[: 1 + PASS])  # worse, and taken all the same
        down = torch.maximum(vertex - 0.1, x0[game] - 0.1)
        assert torch.allclose(x[2 + PASS], down, atol=1e-6)
        assert torch.allclose(x[torch.tensor(margins).argmin()], vertex, atol=1e-6)
        assert min(margins[1 + PASS :]) == pytest.approx(min(margins), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.01, 0.9),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
)
def test_queries_stay_in_ball_and_box(whole_games, norm, epsilon, shape):
    threat = Threat(norm=norm, epsilon=epsilon, budget=12, objective="submit")
    for x, x0 in whole_games(SignHunter(), threat, shape):
        distance = torch.linalg.vector_norm((x - x0).flatten(1), ord=2 if norm == "l2" else torch.inf, dim=1)
        assert distance.max() <= epsilon + 1e-6
        assert x.min() >= 0 and x.max() <= 1


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("feedback", ["logits", "probabilities"])
def test_a_classifier_that_is_sure_in_float32_is_broken(referee, linear, images, targeted, feedback):
    """At a margin of 30 the probability is exactly 1, and its logarithm 0."""
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(4, shape, low=0.4, high=0.6)
    w = slope(model)
    far = (x0 - 0.5).mul(w).flatten(1).sum(dim=1)

    def sure(x, game, turn):
        margin = 30 + 12 * (((x - 0.5) * w).flatten(1).sum(dim=1) - far[game])
        z = torch.stack([margin, torch.zeros_like(margin)], dim=1)
        return z if feedback == "logits" else z.softmax(dim=1)

    assert 12 * 0.05 * w.abs().sum() > 40
    goal = {"goal": "targeted"} if targeted else {}
    target = torch.ones(4, dtype=torch.int64) if targeted else None
    threat = Threat(epsilon=0.05, budget=128, feedback=feedback, **goal)
    table = referee(sure, x0, zeros(4), threat, target=target).play(SignHunter())
    assert all(table.hits)
    assert all(len(table.asked[game]) > 10 for game in range(4))


def test_targeted_it_ends_at_the_signs_that_favour_the_target(referee, linear, images):
    model, x0 = linear(SHAPE, classes=3), images(2, SHAPE, low=0.3, high=0.7)
    far = lambda x, game, turn: model(x, game, turn) + torch.tensor([30.0, 0, -300.0])  # noqa: E731
    threat = Threat(epsilon=0.1, budget=1 + PASS, goal="targeted")
    table = referee(far, x0, zeros(2), threat, target=torch.ones(2, dtype=torch.int64)).play(SignHunter())
    for game in range(2):
        end = table.queries(game)[torch.tensor(table.margins(game)).argmin()]  # class 2 never comes near
        assert torch.allclose(end, x0[game] - 0.1 * slope(model).sign(), atol=1e-6)


@pytest.mark.parametrize(("convention", "asked"), [("fixed", 60), ("adaptive", 180)])
def test_behind_eot_the_mean_decides(referee, linear, images, convention, asked):
    model, x0 = linear(SHAPE), images(2, SHAPE, low=0.3, high=0.7)
    noise = torch.randn(2, 200, generator=torch.Generator().manual_seed(0)) / 2

    def noisy(x, game, turn):
        z = out_of_reach(model)(x, game, turn)
        return z + torch.stack([noise[game, turn], torch.zeros(len(x))], dim=1)

    attack = EOT(of=SignHunter(loss="margin"), repeats=3, convention=convention)
    budget = 60 if convention == "fixed" else 60 * attack.budget_factor
    table = referee(noisy, x0, zeros(2), Threat(epsilon=0.1, budget=budget), facts=False).play(attack)
    for game in range(2):
        x = table.queries(game)
        assert len(x) == asked
        means = torch.tensor(table.margins(game)).view(-1, 3).mean(dim=1).tolist()
        means += [99.0] * (1 + PASS)
        expected = replay(x0[game], means, 0.1)
        count = min(asked // 3, len(expected))
        assert torch.allclose(x[::3][:count], expected[:count], atol=1e-7)
        assert torch.equal(x[::3], x[2::3])


def test_the_incumbent_is_asked_again(referee, linear, images):
    model, x0 = linear(SHAPE), images(2, SHAPE)
    table = referee(out_of_reach(model), x0, zeros(2), Threat(epsilon=0.1, budget=20))
    table.play(SignHunter(refresh_every=3))
    assert table.purposes(0)[:9] == ["start", *["search"] * 3, "refresh", *["search"] * 3, "refresh"]
    for game in range(2):
        x, margins = table.queries(game), table.margins(game)
        assert torch.equal(x[4], x[torch.tensor(margins[:4]).argmin()])


def test_a_games_queries_do_not_depend_on_the_batch_or_on_short_volleys(referee, linear, images):
    shape = (2, 5, 3)
    model, x0 = linear(shape, classes=4), images(5, shape)
    every, key = torch.arange(5), torch.tensor([7, 3, 11, 2, 900])
    label = model(x0, every, every).argmax(dim=1)
    threat, attack = Threat(epsilon=0.02, budget=140), SignHunter(refresh_every=4)
    together = referee(model, x0, label, threat, key=key, seed=3).play(attack)
    cut = referee(model, x0, label, threat, key=key, seed=3, max_rows=2).play(attack)
    assert max(cut.volleys) == 2
    for game in range(5):
        one = slice(game, game + 1)
        alone = referee(model, x0[one], label[one], threat, key=key[one], seed=3).play(attack)
        assert torch.equal(alone.queries(0), together.queries(game))
        assert torch.equal(cut.queries(game), together.queries(game))


def test_a_refused_answer_is_never_kept_not_even_as_a_tie(referee, linear, images):
    model, x0 = linear(SHAPE), images(2, SHAPE)
    table = referee(model, x0, zeros(2), Threat(epsilon=0.01, budget=30), refuse=lambda game, turn: True)
    table.play(SignHunter())
    for game in range(2):
        signs = (table.queries(game) - x0[game]).flatten(1) > 0
        inside = ((x0[game] > 0.01) & (x0[game] < 0.99)).flatten()
        assert (~signs[1:, inside]).sum(dim=1).max() <= 16
        assert (~signs[-4:, inside]).sum(dim=1).max() <= 1  # flips of one sign from all +1


def test_under_submit_the_first_hit_is_handed_in(referee, linear, images):
    model, x0 = linear(SHAPE), images(10, SHAPE)
    every = torch.arange(10)
    threat = Threat(epsilon=0.1, budget=40, objective="submit")
    table = referee(model, x0, model(x0, every, every).argmax(dim=1), threat).play(SignHunter())
    won = [game for game in range(10) if table.hits[game]]
    assert won and set(table.submitted) == set(won)
    for game in won:
        assert table.hits[game] == [len(table.asked[game])]
        assert torch.equal(table.submitted[game], table.queries(game)[-1])


def test_a_wrong_period_is_refused():
    with pytest.raises(ValueError, match="refresh_every"):
        SignHunter(refresh_every=-1)
