import pytest
import torch

from agents.attackers.score.bandits import Bandits, up
from arena.rules.geometry import quantise
from arena.rules.threat import Threat

SHAPE = (2, 4, 6)
LABELS = torch.zeros(3, dtype=torch.int64)
PARAMETERS = {"delta": 0.05, "eta": 0.02, "tau": 3.0, "zeta": 0.5}


def ahead(model, by):
    """Class 0 is ahead, with the same slopes."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([by, 0.0])


def literal_step(v, g, tau, norm):
    """The prior's update as the authors write it; g points where the loss falls."""
    if norm == "l2":
        return v + tau * g
    share = (v + 1) / 2
    rising, falling = share * (tau * g).exp(), (1 - share) * (-tau * g).exp()
    return 2 * rising / (rising + falling) - 1


def enlarged(v, height, width):
    """Each pixel is that of the tile that its corner falls on."""
    rows = torch.arange(height) * v.shape[-2] // height
    columns = torch.arange(width) * v.shape[-1] // width
    return v[..., rows, :][..., columns]


@pytest.mark.parametrize("tile", [None, 2, 3, 8])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_plays_the_authors_formulas_on_a_linear_loss(referee, linear, images, norm, tile):
    """Their steps in float64, for the draws of a seat with the same seed."""
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    w = (model.weight[0] - model.weight[1]).double()
    threat = Threat(norm=norm, epsilon=5.0 if norm == "l2" else 0.4, budget=13)
    make = lambda: referee(ahead(model, 50.0), x0, LABELS, threat)  # noqa: E731
    table, seat = make().play(Bandits(tile=tile, loss="margin", **PARAMETERS)), make().seat
    assert table.volleys == [6] * 7
    delta, eta, tau, zeta = PARAMETERS.values()
    shape = (2, tile, tile) if tile else SHAPE
    x, v = x0.double(), torch.zeros(3, *shape, dtype=torch.float64)
    for number in range(6):
        n = zeta * seat.normal(shape).double() / (shape[0] * shape[1] * shape[2]) ** 0.5
        slope = 0.0
        for side, prior in enumerate((v + n, v - n)):
            q = enlarged(prior, 4, 6)
            q = q / q.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            for game in range(3):
                asked = table.queries(game)[2 * number + side].double()
                assert torch.allclose(asked, x[game] + delta * q[game], atol=1e-5)
            slope = slope + (1 - 2 * side) * (delta * q * w).flatten(1).sum(dim=1)
        slope = (slope / (delta * zeta)).view(-1, 1, 1, 1)
        v = literal_step(v, -slope * n, tau, norm)
        way = enlarged(v, 4, 6)
        way = way.sign() if norm == "linf" else way / way.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        x = x + eta * way
    assert all(set(table.purposes(game)) == {"gradient"} for game in range(3))
    assert all(len(asked) == 13 for asked in table.asked)


def test_the_prior_does_not_overflow_where_the_authors_update_does(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    steep = lambda x, game, turn: 1e4 * ahead(model, 50.0)(x, game, turn)  # noqa: E731
    table = referee(steep, x0, LABELS, Threat(epsilon=0.1, budget=40)).play(Bandits(loss="margin"))
    w = model.weight[0] - model.weight[1]
    v = literal_step(torch.zeros(1), torch.full((1,), 100.0), 100.0, "linf")
    assert v.isnan().all()
    for game in range(3):
        assert table.queries(game).isfinite().all()
        assert table.margins(game)[-1] < table.margins(game)[0] - 1e4 * 0.2 * 0.1 * w.abs().sum()


@pytest.mark.parametrize(
    ("norm", "delta", "eta"), [("linf", 0.1, 0.01), ("l2", 0.01, 0.5)], ids=["linf", "l2"]
)
def test_by_default_it_plays_the_authors_parameters(referee, linear, images, norm, delta, eta):
    shape = (3, 8, 8)
    model, x0 = linear(shape), images(3, shape, low=0.4, high=0.6)
    threat = Threat(norm=norm, epsilon=0.4 if norm == "linf" else 4.0, budget=6)
    named = {"linf": {"tau": 100.0, "zeta": 1.0}, "l2": {"tau": 0.1, "zeta": 0.01}}[norm]
    plain, told = (
        referee(ahead(model, 50.0), x0, LABELS, threat).play(attack)
        for attack in (Bandits(), Bandits(delta=delta, eta=eta, loss="cross-entropy", **named))
    )
    for game in range(3):
        assert torch.equal(plain.queries(game), told.queries(game))
        probes = (plain.queries(game) - x0[game]).flatten(1)
        assert probes[:2].norm(dim=1).tolist() == pytest.approx([delta] * 2, abs=1e-5)
        # Before the first step its two probes lie on both sides of the image.
        assert torch.allclose(probes[0], -probes[1], atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("quantisation", ["none", "floor", "round"])
def test_probes_are_seen_whatever_becomes_of_8_bits(referee, linear, images, quantisation, norm):
    shape = (1, 32, 32)
    model, x0 = linear(shape), quantise(images(3, shape, low=0.3, high=0.7), "round")

    def service(x, game, turn):
        return 100 * model(quantise(x, quantisation), game, turn) + torch.tensor([1e4, 0.0])

    threat = Threat(norm=norm, epsilon=0.4, budget=4, quantisation=quantisation)
    table = referee(service, x0, LABELS, threat).play(Bandits(loss="margin"))
    for game in range(3):
        margins, moved = table.margins(game), table.queries(game)[2:].mean(dim=0) - x0[game]
        assert margins[0] != margins[1]
        assert moved.norm().item() > 0.1


def test_tiles_are_enlarged_by_the_nearest_neighbour():
    v = torch.arange(18.0).view(1, 2, 3, 3)
    assert torch.equal(up(v, torch.Size((7, 5))), enlarged(v, 7, 5))
    assert up(v, torch.Size((3, 3))) is v


def test_a_data_prior_pays_where_the_gradient_is_smooth(referee, images):
    """The loss falls with the mean of each quarter: tiles of 2 x 2 need fewer queries than 12 x 12."""
    x0 = images(3, (1, 12, 12), low=0.4, high=0.6)
    sign = enlarged(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), 12, 12)

    def model(x, game, turn):
        along = ((x - x0[game]) * sign).flatten(1).sum(dim=1)
        return torch.stack([5 - along, torch.zeros(len(x))], dim=1)

    threat = Threat(epsilon=2 * 5 / 144, budget=1000)
    label = LABELS
    costs = []
    for tile in (2, None):
        table = referee(model, x0, label, threat).play(Bandits(tile=tile, eta=0.005))
        costs.append(sorted(len(asked) for asked in table.asked)[1])
    assert costs[0] < 0.5 * costs[1]


@pytest.mark.parametrize(
    ("norm", "goal", "tile"),
    [
        ("linf", "untargeted", None),
        ("linf", "targeted", None),
        ("linf", "untargeted", 4),
        ("l2", "untargeted", None),
        ("l2", "targeted", 4),
    ],
)
def test_it_breaks_what_is_within_reach_and_sends_nothing_from_outside(
    referee, linear, images, norm, goal, tile
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
    threat = Threat(norm=norm, epsilon=epsilon, budget=1200, goal=goal)
    attack = Bandits(tile=tile, eta=epsilon / 8, tau=1.0 if norm == "linf" else None)
    table = referee(model, x0, label, threat, target=goals).play(attack)
    near = [game for game in range(12) if needed[game] < (0.4 if tile is None else 0.1)]
    assert len(near) >= 2
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

    def sure(x, game, turn):
        return 20 * (model(x, game, turn) - model(x0[game], game, turn)) + torch.tensor([30.0, 0.0])

    w = 20 * (model.weight[0] - model.weight[1]).flatten()
    epsilon = 3 * 30 / w.norm(p=1 if norm == "linf" else 2).item()
    threat = Threat(norm=norm, epsilon=epsilon, budget=4000)
    table = referee(sure, x0, LABELS, threat).play(Bandits(eta=epsilon / 20))
    assert all(table.hits[game] for game in range(3))


def test_a_refused_pair_teaches_nothing(referee, linear, images):
    model, x0 = linear(SHAPE), images(3, SHAPE, low=0.4, high=0.6)
    threat = Threat(norm="l2", epsilon=4.0, budget=4)
    table = referee(ahead(model, 50.0), x0, LABELS, threat, refuse=lambda game, turn: turn == 2)
    table.play(Bandits())
    for game in range(3):
        middle = table.queries(game)[2:].mean(dim=0)
        assert torch.allclose(middle, x0[game], atol=1e-6)  # no prior yet: not moved


@pytest.mark.parametrize("wrong", [{"tile": 0}, {"delta": 0.0}, {"eta": -1.0}, {"tau": 0.0}, {"zeta": -2.0}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Bandits(**wrong)


def test_what_it_needs():
    needs = Bandits().needs
    assert needs.unmet(Threat(epsilon=0.1, budget=1)) is None
    assert "scores" in (needs.unmet(Threat(epsilon=0.1, budget=1, feedback="label")) or "")
    assert "objective" in (needs.unmet(Threat(epsilon=0.1, budget=1, objective="minimum")) or "")
