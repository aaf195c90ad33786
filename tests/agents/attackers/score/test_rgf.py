import pytest
import torch

from agents.attackers.parts.estimates import BLOCK
from agents.attackers.score.rgf import RGF
from arena.rules.threat import Threat

SHAPE = (2, 4, 4)
LABELS = torch.zeros(3, dtype=torch.int64)
NORMAL = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))


def bowl(x, game, turn):
    """The margin 5 + sum_k k (x_k - .4)^2."""
    value = 5 + (weights() * (x - 0.4).square()).double().flatten(1).sum(dim=1)
    return torch.stack([value, torch.zeros_like(value)], dim=1)


def weights():
    return torch.arange(1.0, 33).view(SHAPE)


def drawn(seat, count):
    """The directions [G,count,C,H,W] that a fresh seat deals for one step."""
    blocks = [seat.normal((BLOCK, *SHAPE)) for _ in range(-(-count // BLOCK))]
    return torch.cat(blocks, dim=1)[:, :count]


def estimates(seat, x, mu, count, both_sides):
    """eq. 3 in the bowl, averaged: (L(x + mu u) - L(x)) / mu = grad u + mu sum k u_k^2; without the last term
    from both sides."""
    u, gradient = drawn(seat, count), 2 * weights() * (x - 0.4)
    slope = (gradient.unsqueeze(1) * u).flatten(2).sum(dim=2)
    if not both_sides:
        slope = slope + mu * (weights() * u.square()).flatten(2).sum(dim=2)
    return (slope[..., None, None, None] * u).mean(dim=1)


WAYS = {
    "sign": lambda g: g.sign(),
    "normalised": lambda g: g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1),
    "raw": lambda g: g,
}


@pytest.mark.parametrize("step", ["sign", "normalised", "raw"])
@pytest.mark.parametrize("estimate", ["forward", "antithetic"])
def test_steps_in_a_bowl_follow_equations_3_and_4(referee, images, estimate, step):
    x0, mu, eta = images(3, SHAPE, low=0.4, high=0.6), 0.02, 1e-3
    both = estimate == "antithetic"
    each = 22 if both else 12
    threat = Threat(norm="l2", epsilon=5.0, budget=3 * each)
    make = lambda: referee(bowl, x0, LABELS, threat)  # noqa: E731
    attack = RGF(estimate=estimate, step=step, mu=mu, eta=eta, directions=11)
    table, seat, x = make().play(attack), make().seat, x0
    assert table.volleys == ([3 * 22] * 3 if both else [3, 33] * 3)
    for number in range(3):
        g = estimates(seat, x, mu, 11, both)
        for game in range(3):
            queries = table.queries(game)[number * each : (number + 1) * each]
            at = queries.view(11, 2, *SHAPE).mean(dim=1)[0] if both else queries[0]
            assert torch.allclose(at, x[game], atol=1e-5)
            purposes = table.purposes(game)[number * each : (number + 1) * each]
            assert purposes == (["gradient"] * 22 if both else ["base"] + ["gradient"] * 11)
        x = x - eta * WAYS[step](g)
    assert (x - x0).abs().max() > 5 * 1e-5


@pytest.mark.parametrize(("norm", "step", "eta"), [("linf", "sign", 2 / 255), ("l2", "normalised", 64 / 255)])
def test_the_step_follows_the_norm_and_its_length_neses(referee, images, norm, step, eta):
    x0 = images(3, SHAPE, low=0.4, high=0.6)
    threat = Threat(norm=norm, epsilon=0.5, budget=22)
    table, named = (
        referee(bowl, x0, LABELS, threat).play(attack) for attack in (RGF(), RGF(step=step, eta=eta))
    )
    assert all(torch.equal(table.queries(game), named.queries(game)) for game in range(3))
    moved = (table.queries(0)[21] - x0[0]).flatten()
    assert moved.norm(p=torch.inf if norm == "linf" else 2).item() == pytest.approx(eta, abs=1e-5)


@pytest.mark.parametrize(("every", "bases"), [(0, 1), (1, 6), (4, 2), (6, 1)])
def test_the_base_is_asked_again_for_every_so_many_directions(referee, images, every, bases):
    """Each is answered with noise of its own: a direction's difference is to the base of its group."""
    x0 = images(3, SHAPE, low=0.4, high=0.6)

    def noisy(x, game, turn):
        return bowl(x, game, turn) + torch.stack([NORMAL[game, turn], torch.zeros(len(x))], dim=1)

    threat = Threat(norm="l2", epsilon=50.0, budget=bases + 7)
    make = lambda: referee(noisy, x0, LABELS, threat)  # noqa: E731
    attack = RGF(directions=6, mu=0.1, eta=1e-4, step="raw", refresh_every=every)
    table, u = make().play(attack), drawn(make().seat, 6)
    for game in range(3):
        assert table.purposes(game) == ["base"] * bases + ["gradient"] * 6 + ["base"]
        losses = torch.tensor(table.margins(game))
        base = losses[:bases].repeat_interleave(every or 6)[:6]
        slope = (losses[bases : bases + 6] - base) / 0.1
        g = (slope.view(-1, 1, 1, 1) * u[game]).mean(dim=0)
        assert torch.allclose(table.queries(game)[-1], x0[game] - 1e-4 * g, atol=1e-5)


@pytest.mark.parametrize("estimate", ["forward", "antithetic"])
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_breaks_what_is_within_reach_and_sends_nothing_from_outside(
    referee, linear, images, norm, goal, estimate
):
    shape = (1, 8, 8)
    model, x0 = linear(shape, classes=3), images(12, shape, low=0.3, high=0.7)
    every = torch.arange(12)
    scores = model(x0, every, every)
    label = scores.argmax(dim=1)
    goals = (label + 1) % 3 if goal == "targeted" else None
    epsilon, w = 0.1 if norm == "linf" else 0.8, model.weight.flatten(1)
    reach = epsilon * (w[label].unsqueeze(1) - w).norm(p=1 if norm == "linf" else 2, dim=-1)
    needed = (scores.gather(1, label.view(-1, 1)) - scores) / reach
    own = torch.nn.functional.one_hot(label, 3).bool()
    needed = needed[every, goals] if goals is not None else needed.masked_fill(own, 9.0).amin(dim=1)
    threat = Threat(norm=norm, epsilon=epsilon, budget=1500, goal=goal)
    attack = RGF(estimate=estimate, eta=epsilon / 8)
    table = referee(model, x0, label, threat, target=goals).play(attack)
    near = [game for game in range(12) if needed[game] < 0.4]
    assert len(near) >= 4
    assert all(table.hits[game] for game in near)
    assert not any(table.hits[game] for game in range(12) if needed[game] > 1)
    for game in range(12):
        delta = (table.queries(game) - x0[game]).flatten(1)
        assert delta.norm(p=2 if norm == "l2" else torch.inf, dim=1).max() <= epsilon + 1e-6


@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_classifier_that_float32_cannot_see_doubt_is_broken(referee, linear, images, norm, loss):
    """A margin of 30: the probability rounds to 1, and its logarithm to 0."""
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(3, shape, low=0.4, high=0.6)

    def sure(x, game, turn):
        return 20 * (model(x, game, turn) - model(x0[game], game, turn)) + torch.tensor([30.0, 0.0])

    w = 20 * (model.weight[0] - model.weight[1]).flatten()
    epsilon = 2 * 30 / w.norm(p=1 if norm == "linf" else 2).item()
    threat = Threat(norm=norm, epsilon=epsilon, budget=2000)
    attack = RGF(loss=loss, mu=1e-3, eta=epsilon / 10)
    table = referee(sure, x0, LABELS, threat).play(attack)
    assert all(table.hits[game] for game in range(3))


def test_where_the_service_refuses_every_iterate_it_still_goes_down(referee, images):
    x0 = images(3, SHAPE, low=0.6, high=0.8)

    def asks_for_the_base(game, turn):
        return (turn - 1) % 21 == 0

    threat = Threat(epsilon=0.2, budget=210)
    table = referee(bowl, x0, LABELS, threat, refuse=asks_for_the_base).play(RGF())
    for game in range(3):
        assert table.purposes(game) == (["base"] + ["gradient"] * 20) * 10
        assert table.margins(game)[-21] < 5 + 0.85 * (table.margins(game)[0] - 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mu": 0.0},
        {"eta": -1.0},
        {"directions": 0},
        {"refresh_every": -1},
        {"estimate": "central"},
        {"step": "long"},
        {"refresh_every": 1, "estimate": "antithetic"},
    ],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RGF(**wrong)


def test_what_it_needs():
    needs = RGF().needs
    assert needs.unmet(Threat(epsilon=0.1, budget=1)) is None
    assert "scores" in (needs.unmet(Threat(epsilon=0.1, budget=1, feedback="label")) or "")
    assert "objective" in (needs.unmet(Threat(epsilon=0.1, budget=1, objective="minimum")) or "")
