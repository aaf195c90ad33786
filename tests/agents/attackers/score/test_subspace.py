import math

import pytest
import torch
from torch import nn

from agents.attackers.parts.estimates import unit
from agents.attackers.score.subspace import Subspace, risen
from arena.players.seat import Resources
from arena.rules.geometry import quantise
from arena.rules.threat import GrantedResources, NamedNetwork, Threat

SHAPE = (2, 6, 6)


class Linear(nn.Module):
    """Logits W (x - 1/2) as those of the fixture `linear`, the same bits in any batch."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x):
        return ((x - 0.5).unsqueeze(1) * self.weight).flatten(2).sum(dim=2)


class Blank(nn.Module):
    """A network without a gradient."""

    def __init__(self, classes=2):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return x.flatten(1)[:, : self.classes] * 0


def weights(seed, classes=2):
    return torch.randn(classes, *SHAPE, generator=torch.Generator().manual_seed(seed))


def apart(weight):
    return weight[0] - weight[1]


def far(model):
    """The same slopes, but class 0 is always far ahead."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([50.0, 0.0])


@pytest.fixture
def played(referee, images):
    """played(model, networks, attacker, threat, ...): a table of games on class 0 after its play."""

    def play(model, networks, attacker, threat, games=3, low=0.45, **more):
        x0 = images(games, SHAPE, low=low, high=1 - low)
        label = torch.zeros(games, dtype=torch.int64)
        table = referee(model, x0, label, threat, **more)
        table.seat.resources = Resources(surrogates=tuple(networks))
        return table.play(attacker)

    return play


def test_three_queries_a_step(played, linear):
    model = linear(SHAPE)
    table = played(far(model), [Linear(model.weight)], Subspace(), Threat(epsilon=0.1, budget=11))
    for game in range(3):
        assert table.purposes(game) == ["base", "gradient", "gradient"] * 3 + ["base", "gradient"]
    assert table.volleys == [3, 6] * 3 + [3, 6]


def test_with_the_service_itself_it_goes_straight_down(played, linear):
    model = linear(SHAPE)
    threat = Threat(epsilon=0.1, budget=40)
    table = played(far(model), [Linear(model.weight)], Subspace(eta=0.01), threat)
    w = apart(model.weight)
    d = w / w.norm()
    for game in range(3):
        queries, x0 = table.queries(game), table.x0[game]
        for t in range(13):
            x = queries[3 * t]
            expected = (x0 - min(0.01 * t, 0.1) * w.sign()).clamp(0, 1)
            torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)
        # The first probes: no prior yet, so that they lie at plus and minus delta along d.
        torch.testing.assert_close(queries[1] - x0, 0.1 * d, rtol=0, atol=1e-5)
        torch.testing.assert_close(queries[2] - x0, -0.1 * d, rtol=0, atol=1e-5)
        # The second: from a prior that points up hill, of length 1 / |d|_1.
        prior = d / d.abs().sum()
        for number, side in ((4, 1.0), (5, -1.0)):
            q = unit((prior + side * 0.1 * d)[None])[0]
            expected = table.seat.project((queries[3] + 0.1 * q)[None], torch.tensor([game]))[0]
            torch.testing.assert_close(queries[number], expected, rtol=0, atol=1e-5)


def test_it_pulls_the_services_own_answer_back_through_the_network(played, images):
    """The other class of the margin is the service's second, whatever the network says of it."""
    classes = 5
    victim, network = Linear(weights(1, classes)), Linear(weights(2, classes))
    high = torch.tensor([50.0, 0, 0, 0, 0])

    def service(x, game, turn):
        return victim(x) + high

    table = played(service, [network], Subspace(), Threat(epsilon=0.2, budget=3), 8)
    second = set()
    for game in range(8):
        x0 = table.x0[game]
        best = int(victim(x0[None])[0, 1:].argmax()) + 1
        second.add(best)
        w = network.weight[0] - network.weight[best]
        torch.testing.assert_close(table.queries(game)[1] - x0, 0.1 * w / w.norm(), rtol=0, atol=1e-5)
    assert len(second) > 1


@pytest.mark.parametrize("feedback", ["probabilities", "topk:3"])
@pytest.mark.parametrize("loss", ["margin", "cross-entropy"])
def test_probabilities_pull_as_their_logits_do(images, linear, feedback, loss):
    """Of K classes the three that `topk:3` shows have nearly all of the probability."""
    import arena

    shift = torch.tensor([3.0, 2.0, 1.0, -25.0, -30.0])
    network, x = Linear(weights(3, 5) * 0.02), images(6, SHAPE)

    def service(x):
        return network(x) + shift

    def asked(feedback):
        found = arena.play(
            Subspace(loss=loss),
            classifier=service,
            images=x,
            labels=torch.zeros(6, dtype=torch.int64),
            threat={"epsilon": 0.02, "budget": 12, "feedback": feedback},
            surrogates=[network],
            keep_rows=True,
        )
        return [torch.from_numpy(rows.l2) for rows in found.rows]

    for one, other in zip(asked("logits"), asked(feedback), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_the_network_is_drawn_for_each_game(played, linear):
    model = linear(SHAPE)
    networks = [Linear(weights(seed)) for seed in (4, 5, 6)]
    table = played(far(model), networks, Subspace(), Threat(epsilon=0.2, budget=3), 90)
    d = torch.stack([unit(apart(one.weight)[None])[0] for one in networks])
    seen = [0, 0, 0]
    for game in range(90):
        probe = table.queries(game)[1] - table.x0[game]
        found = [torch.allclose(probe, 0.1 * one, atol=1e-5) for one in d]
        assert sum(found) == 1
        seen[found.index(True)] += 1
    assert min(seen) > 15


@pytest.mark.parametrize("quantisation", ["none", "floor", "round"])
def test_probes_are_seen_whatever_becomes_of_8_bits(referee, images, quantisation):
    """Two of a length of .1 in 40,000 values: a quarter of a level would be seen by no rounding service."""
    shape = (1, 200, 200)
    network = Linear(torch.stack([torch.ones(shape), torch.zeros(shape)]))
    x0 = quantise(images(2, shape, low=0.3, high=0.7), "round")

    def service(x, game, turn):
        return network(quantise(x, quantisation)) + torch.tensor([1e5, 0.0])

    threat = Threat(epsilon=0.1, budget=4, quantisation=quantisation)
    table = referee(service, x0, torch.zeros(2, dtype=torch.int64), threat)
    table.seat.resources = Resources(surrogates=(network,))
    table.play(Subspace())
    for game in range(2):
        _, up, down, _ = table.margins(game)
        assert up > down
        assert (table.queries(game)[3] - x0[game]).abs().amax().item() == pytest.approx(1 / 255, abs=1e-6)


class Viewed(Linear):
    """Flattens as many networks do, which fails for a batch of none."""

    def forward(self, x):
        return super().forward(x.view(x.size(0), -1).view_as(x))


def test_a_network_that_no_game_has_drawn_is_left_alone(played, linear):
    model = linear(SHAPE)
    networks = [Viewed(weights(seed)) for seed in (4, 5, 6)]
    table = played(far(model), networks, Subspace(), Threat(epsilon=0.2, budget=9), 1)
    assert len(table.asked[0]) == 9


def test_without_any_gradient_the_directions_are_random(played, linear):
    model = linear(SHAPE)
    table = played(far(model), [Blank()], Subspace(), Threat(epsilon=0.2, budget=300), 4)
    first = torch.stack([table.queries(game)[1] - table.x0[game] for game in range(4)])
    assert first.flatten(1).norm(dim=1).tolist() == pytest.approx([0.1] * 4, abs=1e-5)
    apart_by = (first.flatten(1) @ first.flatten(1).T / 0.01 - torch.eye(4)).abs().max()
    assert float(apart_by) < 0.5
    for game in range(4):  # as Bandits, it still goes down
        assert table.margins(game)[-3] < table.margins(game)[0] - 1


class Dropped(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.linear, self.dropout = Linear(weight), nn.Dropout()

    def forward(self, x):
        return self.linear(0.5 + self.dropout(x - 0.5))


def test_dropout_layers_drop_from_step_ten_on(played, linear):
    model = linear(SHAPE)
    attacker, threat = Subspace(dropout_growth=0.5), Threat(epsilon=0.2, budget=60)
    table = played(far(model), [Dropped(model.weight).eval()], attacker, threat, 2)
    plain = played(far(model), [Linear(model.weight)], attacker, threat, 2)
    for game in range(2):
        one, other = table.queries(game), plain.queries(game)
        assert torch.equal(one[:34], other[:34])  # up to step 10, at which the probability is still 0
        assert not torch.equal(one[34], other[34])


def test_the_schedule_of_dropout():
    attacker = Subspace()
    assert [attacker.dropped(t) for t in (0, 9, 10)] == [0, 0, 0]
    for t in (11, 50, 1000):
        assert attacker.dropped(t) == pytest.approx(0.5 - 0.5 * math.exp(-0.01 * (t - 10)))
    assert Subspace(dropout=0.0).dropped(500) == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_it_breaks_what_is_within_reach(played, linear, norm, goal):
    model = linear(SHAPE)
    w = apart(model.weight)
    epsilon = 8 / 255 if norm == "linf" else 1.0
    reach = epsilon * float(w.abs().sum() if norm == "linf" else w.norm())

    def shifted(x, game, turn):
        return model(x, game, turn) + torch.tensor([0.6 * reach, 0.0])

    target = torch.ones(6, dtype=torch.int64) if goal == "targeted" else None
    threat = Threat(norm=norm, epsilon=epsilon, budget=60, goal=goal)
    table = played(shifted, [Linear(model.weight)], Subspace(), threat, 6, 0.499, target=target)
    assert all(table.hits[game] and table.hits[game][0] < 25 for game in range(6))


def test_under_submit_the_first_hit_is_handed_in(played, linear):
    model = linear(SHAPE)
    threat = Threat(epsilon=0.1, budget=90, objective="submit")
    table = played(model, [Linear(model.weight)], Subspace(), threat, 8)
    won = [game for game in range(8) if table.hits[game]]
    assert won and set(table.submitted) == set(won)
    for game in won:
        assert any(torch.equal(table.submitted[game], x) for x in table.queries(game)[-2:])


def test_games_do_not_depend_on_the_batch_or_on_max_rows(referee, linear, images):
    model = linear(SHAPE)
    x0, key = images(5, SHAPE), torch.tensor([7, 3, 11, 2, 900])
    label = model(x0, None, None).argmax(dim=1)
    networks = [Dropped(weights(7)).eval(), Linear(weights(8))]
    threat, attacker = Threat(epsilon=0.02, budget=80), Subspace()

    def play(rows, **more):
        table = referee(model, x0[rows], label[rows], threat, key=key[rows], seed=3, **more)
        table.seat.resources = Resources(surrogates=tuple(networks))
        return table.play(attacker)

    together, cut = play(slice(0, 5)), play(slice(0, 5), max_rows=3)
    for game in range(5):
        alone = play(slice(game, game + 1))
        assert torch.equal(alone.queries(0), together.queries(game))
        assert torch.equal(cut.queries(game), together.queries(game))


def test_refused_answers_teach_nothing(played, linear):
    model = linear(SHAPE)
    threat = Threat(epsilon=0.1, budget=30)
    table = played(far(model), [Linear(model.weight)], Subspace(), threat, 2, refuse=lambda g, turn: True)
    for game in range(2):
        assert all(torch.equal(x, table.x0[game]) for x in table.queries(game)[::3])


def test_what_it_needs():
    needs = Subspace().needs
    granted = GrantedResources(surrogates=(NamedNetwork(network="net"),))
    assert needs.unmet(Threat(epsilon=0.1, budget=1, resources=granted)) is None
    assert "reference network" in (needs.unmet(Threat(epsilon=0.1, budget=1)) or "")


@pytest.mark.parametrize("wrong", [{"zeta": 0.0}, {"tau": -1.0}, {"dropout": 1.0}, {"dropout_from": -1}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Subspace(**wrong)


def test_what_rounding_makes_of_one_probe_asked_twice_is_no_rise():
    up = torch.tensor([2.0, 2.0, -3.0, torch.inf, 1e-30, 0.0])
    down = torch.tensor([1.0, 2.0 - 2.0**-22, -3.0, 1.0, 2e-30, 0.0])
    assert risen(up, down).tolist() == [1, 0, 0, 0, -1, 0]
