import pytest
import torch

from agents.attackers.parts.estimates import BLOCK
from agents.attackers.score.nes import NES
from arena.rules.geometry import quantise
from arena.rules.threat import Threat

SHAPE = (2, 4, 4)
LABELS = torch.zeros(3, dtype=torch.int64)


def ahead(model, by):
    """Class 0 is ahead, with the same slopes."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([by, 0.0])


def estimates(seat, pairs, scale, w):
    """mean (w u) u over the directions that a fresh seat deals for one step, [G,C,H,W]."""
    blocks = [scale * seat.normal((BLOCK, *SHAPE)) for _ in range(-(-pairs // BLOCK))]
    u = torch.cat(blocks, dim=1)[:, :pairs]
    return ((u * w).flatten(2).sum(dim=2)[..., None, None, None] * u).mean(dim=1)


def middles(table, game, first, pairs):
    """The points [pairs,C,H,W] between the two sides of each of `pairs` pairs from query `first` on."""
    return table.queries(game)[first : first + 2 * pairs].view(pairs, 2, *SHAPE).mean(dim=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("noise", ["unit", "pixel"])
def test_steps_on_a_linear_loss_follow_the_closed_form(referee, linear, images, norm, noise):
    """x <- x - eta sign g (l2: g / |g|) with g = mean (w u) u, for the draws of a seat with the same seed."""
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    w = model.weight[0] - model.weight[1]
    threat = Threat(norm=norm, epsilon=0.5, budget=60)
    attack = NES(eta=0.05, pairs=11, loss="margin", noise=noise)
    make = lambda: referee(ahead(model, 50.0), x0, LABELS, threat)  # noqa: E731
    table, seat = make().play(attack), make().seat
    assert table.volleys == [3 * 22] * 3
    x = x0
    for number, pairs in enumerate((11, 11, 8)):
        for game in range(3):
            found = middles(table, game, 22 * number, pairs)
            assert torch.allclose(found, x[game].expand_as(found), atol=1e-5)
            assert table.purposes(game) == ["gradient"] * 60
        g = estimates(seat, 11, 1.0 if noise == "pixel" else 32**-0.5, w)
        assert g.abs().min() > 1e-4  # no sign hangs on rounding
        x = x - 0.05 * (g.sign() if norm == "linf" else g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1))


@pytest.mark.parametrize(
    ("norm", "pairs", "eta"), [("linf", 20, 2 / 255), ("l2", 4, 64 / 255)], ids=["linf", "l2"]
)
def test_by_default_it_plays_the_sign_hunter_authors_parameters(referee, linear, images, norm, pairs, eta):
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    threat = Threat(norm=norm, epsilon=0.5, budget=4 * pairs)
    table = referee(ahead(model, 30.0), x0, LABELS, threat).play(NES())
    assert table.volleys == [6 * pairs] * 2
    for game in range(3):
        first, second = (middles(table, game, k * 2 * pairs, pairs)[0] for k in (0, 1))
        assert torch.allclose(first, x0[game], atol=1e-6)
        moved = (second - first).flatten()
        assert moved.norm(p=torch.inf if norm == "linf" else 2).item() == pytest.approx(eta, abs=1e-5)
        probes = table.queries(game)[: 2 * pairs] - x0[game]
        # N(0, I / d): the mean of the squared length is sigma^2, its deviation sqrt(2 / d) of that.
        mean = probes.flatten(1).square().sum(dim=1).mean().item()
        assert mean == pytest.approx(0.01**2, rel=4 * (2 / 32 / pairs) ** 0.5)


def test_the_iterate_is_asked_if_wanted(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    threat = Threat(epsilon=0.5, budget=21)
    table = referee(ahead(model, 50.0), x0, LABELS, threat).play(NES(pairs=4, ask_iterate=True))
    assert table.volleys == [24, 3, 24, 3, 3 * 8]
    for game in range(3):
        assert table.purposes(game) == (["gradient"] * 8 + ["step"]) * 2 + ["gradient"] * 3
        found = middles(table, game, 9, 4)
        assert torch.allclose(found, table.queries(game)[8].expand_as(found), atol=1e-6)


@pytest.mark.parametrize("noise", ["unit", "pixel"])
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_breaks_what_is_within_reach_and_sends_nothing_from_outside(
    referee, linear, images, norm, goal, noise
):
    shape = (1, 8, 8)
    model, x0 = linear(shape, classes=3), images(12, shape, low=0.3, high=0.7)
    every = torch.arange(12)
    label = model(x0, every, every).argmax(dim=1)
    goals = (label + 1) % 3 if goal == "targeted" else None
    epsilon = 0.1 if norm == "linf" else 0.8
    scores = model(x0, every, every)
    w = model.weight.flatten(1)
    length = lambda v: v.norm(p=1 if norm == "linf" else 2, dim=-1)  # noqa: E731
    reach = epsilon * length(w[label].unsqueeze(1) - w)  # [G,K]: how far z_y - z_k can fall
    needed = (scores.gather(1, label.view(-1, 1)) - scores) / reach
    own = torch.nn.functional.one_hot(label, 3).bool()
    needed = needed[every, goals] if goals is not None else needed.masked_fill(own, 9.0).amin(dim=1)
    threat = Threat(norm=norm, epsilon=epsilon, budget=1500, goal=goal)
    table = referee(model, x0, label, threat, target=goals).play(NES(noise=noise, eta=epsilon / 8))
    near = [game for game in range(12) if needed[game] < 0.4]
    assert len(near) >= 4
    assert all(table.hits[game] for game in near)
    assert not any(table.hits[game] for game in range(12) if needed[game] > 1)
    for game in range(12):
        delta = (table.queries(game) - x0[game]).flatten(1)
        assert delta.norm(p=2 if norm == "l2" else torch.inf, dim=1).max() <= epsilon + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_classifier_that_float32_cannot_see_doubt_is_broken_by_cross_entropy(referee, linear, images, norm):
    """A margin of 30: the probability rounds to 1, and its logarithm to 0."""
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(3, shape, low=0.4, high=0.6)
    scale = 20.0

    def sure(x, game, turn):
        scores = scale * (model(x, game, turn) - model(x0[game], game, turn))
        return scores + torch.tensor([30.0, 0.0])

    assert (sure(x0, LABELS, LABELS).log_softmax(dim=1)[:, 0] == 0).all()
    w = scale * (model.weight[0] - model.weight[1]).flatten()
    epsilon = 2 * 30 / w.norm(p=1 if norm == "linf" else 2).item()
    threat = Threat(norm=norm, epsilon=epsilon, budget=2000)
    table = referee(sure, x0, LABELS, threat).play(NES(eta=epsilon / 10))
    assert all(table.hits[game] for game in range(3))


@pytest.mark.parametrize("quantisation", ["none", "floor", "round"])
def test_probes_are_seen_whatever_becomes_of_8_bits(referee, linear, images, quantisation):
    """Probes of a twentieth of a level: a service that rounds answers both sides of a pair alike."""
    shape = (1, 32, 32)
    model, x0 = linear(shape), quantise(images(3, shape, low=0.3, high=0.7), "round")

    def service(x, game, turn):
        return 100 * model(quantise(x, quantisation), game, turn) + torch.tensor([1e4, 0.0])

    threat = Threat(epsilon=0.1, budget=80, quantisation=quantisation)
    for noise in (None, "unit"):
        table = referee(service, x0, LABELS, threat).play(NES(noise=noise, loss="margin"))
        seen = quantisation != "round" or noise is None
        for game in range(3):
            margins = torch.tensor(table.margins(game)).view(40, 2)
            assert ((margins[:, 0] != margins[:, 1]).any() == seen).item()
            moved = (table.queries(game)[40:].mean(dim=0) - x0[game]).abs().amax().item()
            assert moved > 1 / 255 if seen else moved < 0.2 / 255


def test_a_hit_is_handed_in_where_answers_are_facts(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    every = torch.arange(3)
    label = model(x0, every, every).argmax(dim=1)
    threat = Threat(epsilon=0.3, budget=2000, objective="submit")
    table = referee(model, x0, label, threat).play(NES(eta=0.02))
    assert set(table.submitted) == {0, 1, 2}
    for game in range(3):
        score = model(table.submitted[game].unsqueeze(0), every[:1], every[:1])
        assert score.argmax() != label[game]
        assert table.hits[game][-1] > len(table.asked[game]) - 40  # within its last volley


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"eta": -1.0}, {"pairs": 0}, {"noise": "white"}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NES(**wrong)


def test_what_it_needs():
    needs = NES().needs
    assert needs.unmet(Threat(epsilon=0.1, budget=1)) is None
    assert "scores" in (needs.unmet(Threat(epsilon=0.1, budget=1, feedback="label")) or "")
    assert "objective" in (needs.unmet(Threat(epsilon=0.1, budget=1, objective="minimum")) or "")
