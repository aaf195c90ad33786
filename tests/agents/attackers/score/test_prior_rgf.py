import math

import pytest
import torch
from torch import nn

from agents.attackers.parts.estimates import unit
from agents.attackers.score.prior_rgf import ETA, LEVEL, MOST, PriorRGF, Slopes, optimal_lambda
from arena.players.seat import Resources
from arena.rules.threat import GrantedResources, NamedNetwork, Threat

SHAPE = (3, 8, 8)
D = 3 * 8 * 8
LENGTH = ["gradient-length"] * 10


class Linear(nn.Module):
    """Logits W (x - 1/2) as those of the fixture `linear`, the same bits in any batch."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x):
        return ((x - 0.5).unsqueeze(1) * self.weight).flatten(2).sum(dim=2)


class Blank(nn.Module):
    """A network without a gradient."""

    def forward(self, x):
        return x.flatten(1)[:, :2] * 0


def apart(model):
    return model.weight[0] - model.weight[1]


def orthogonal(model):
    """A network whose margin has a gradient orthogonal to the model's."""
    w, v = apart(model), torch.randn(SHAPE, generator=torch.Generator().manual_seed(9))
    v -= (v * w).sum() / w.square().sum() * w
    return Linear(torch.stack([v, torch.zeros_like(v)]))


def far(model):
    """The same slopes, but class 0 is always far ahead."""
    return lambda x, game, turn: model(x, game, turn) + torch.tensor([50.0, 0.0])


@pytest.fixture
def played(referee, images):
    """played(model, networks, attacker, threat, ...): a table of games on class 0 after its play."""

    def play(model, networks, attacker, threat, games=3, low=0.45, **more):
        x0 = images(games, SHAPE, low=low, high=1 - low)
        label = torch.zeros(games, dtype=torch.int64)
        table = referee(model, x0, more.pop("label", label), threat, **more)
        table.seat.resources = Resources(surrogates=tuple(networks))
        return table.play(attacker)

    return play


def test_with_the_service_itself_it_asks_no_direction_and_follows_the_gradient(played, linear):
    model = linear(SHAPE)
    threat = Threat(epsilon=0.1, budget=30)
    table = played(far(model), [Linear(model.weight)], PriorRGF(loss="margin", eta=0.02), threat)
    for game in range(3):
        asked = table.purposes(game)
        # base, length, prior; three steps of two; base, length again at step 3, prior; two to a step
        expected = ["base", *LENGTH, "prior", *["base", "prior"] * 2, "base", *LENGTH, "prior", "base"]
        assert asked == (expected + ["prior", "base"] * 10)[:30]
        bases = [x for x, purpose in zip(table.queries(game), asked, strict=True) if purpose == "base"]
        for t, x in enumerate(bases):
            expected_x = table.x0[game] - min(0.02 * t, 0.1) * apart(model).sign()
            torch.testing.assert_close(x, expected_x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_step_is_enough_on_a_linear_service(played, linear, sign):
    """Also with its negative: a prior that points up hill is turned."""
    model, x0 = linear(SHAPE), None
    epsilon = 0.1
    table = played(
        model, [Linear(sign * model.weight)], PriorRGF(eta=epsilon), Threat(epsilon=epsilon, budget=40), 12
    )
    x0 = table.x0
    z = model(x0, None, None)
    margin = z[:, 0] - z[:, 1]
    reach = epsilon * apart(model).abs().sum()
    within = [g for g in range(12) if 0 < margin[g] < 0.95 * reach]
    assert len(within) >= 4
    for game in within:
        assert table.hits[game] == [13]  # base, 10 of the length, the prior, and the step
        assert table.purposes(game)[-1] == "base"


def test_an_orthogonal_prior_is_told_and_does_no_harm(played, linear):
    """It is no worse than plain RGF, which a network without a gradient leaves."""
    model, threat = linear(SHAPE), Threat(epsilon=0.1, budget=800)

    def shifted(x, game, turn):
        return model(x, game, turn) + torch.tensor([0.5 * 0.1 * float(apart(model).abs().sum()), 0.0])

    found = {}
    for name, network in (("orthogonal", orthogonal(model)), ("none", Blank())):
        table = played(shifted, [network], PriorRGF(loss="margin"), threat, 8, 0.495)
        assert table.purposes(0)[12:62] == ["gradient"] * 50  # lambda = 0: all directions
        found[name] = [hits[0] if hits else math.inf for hits in table.hits]
    assert all(hit < math.inf for hit in found["none"])
    assert all(hit < math.inf for hit in found["orthogonal"])
    mean = {name: sum(hits) / 8 for name, hits in found.items()}
    assert mean["orthogonal"] < 1.15 * mean["none"]


def test_directions_lean_towards_the_prior_by_their_share(referee, linear, images, procedure):
    """The squared part of each direction along v is lambda, the rest is orthogonal to it and of all kinds."""
    x0, share = images(3, SHAPE, low=0.4, high=0.6), torch.tensor([0.0, 0.3, 0.9])
    model, label = linear(SHAPE), torch.zeros(3, dtype=torch.int64)
    table = referee(far(model), x0, label, Threat(epsilon=0.2, budget=20))
    v = unit(images(3, SHAPE, low=-1.0))

    def steps(games):
        slopes = Slopes(games, PriorRGF(loss="margin", directions=20, mu=1e-2))
        slopes.base[:] = torch.tensor(50.0) + (x0 - 0.5).mul(apart(model)).flatten(1).sum(dim=1)
        return (yield from slopes.biased(x0, v, share, torch.arange(3)))

    asks = procedure(steps)
    table.play(asks)
    for game in range(3):
        u = (table.queries(game) - x0[game]).double().flatten(1) / (1e-2 * math.sqrt(D))
        along = u @ v[game].double().flatten()
        torch.testing.assert_close(along.float(), share[game].sqrt().expand(20), rtol=0, atol=1e-3)
        torch.testing.assert_close(u.norm(dim=1).float(), torch.ones(20), rtol=0, atol=1e-3)
        rest = unit((u - along[:, None] * v[game].double().flatten()).view(20, *SHAPE)).flatten(1)
        assert float((rest @ rest.T - torch.eye(20)).abs().max()) < 0.4
        slope = u.float() @ apart(model).flatten()
        expected = (slope[:, None] * u.float()).mean(dim=0).view(SHAPE)
        torch.testing.assert_close(asks.result[game], expected, rtol=1e-2, atol=1e-2)


def efficiency(lam, alpha, d, q):
    """(g'Cg)^2 / ((1 - 1/q) g'C^2 g + g'Cg / q) for |g| = 1, C = lam vv' + (1 - lam) / (d - 1) (I - vv')."""
    rest = (1 - lam) / (d - 1)
    first = lam * alpha**2 + rest * (1 - alpha**2)
    second = lam**2 * alpha**2 + rest**2 * (1 - alpha**2)
    return first**2 / ((1 - 1 / q) * second + first / q)


@pytest.mark.parametrize(("d", "q"), [(192, 50), (3072, 50), (3072, 10), (50, 2)])
def test_lambda_maximises_what_the_estimate_is_worth(d, q):
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    for alpha in (0.001, 0.01, 0.05, 0.1, 0.13, 0.17, 0.2, 0.3, 0.6, 0.99, 1.4):
        found = float(optimal_lambda(torch.tensor([alpha], dtype=torch.float64), d, q))
        if alpha >= 1:
            assert found == 1
            continue
        best = efficiency(grid, alpha, d, q).max()
        assert float(efficiency(found, alpha, d, q)) == pytest.approx(float(best), rel=1e-6)
        assert float(optimal_lambda(torch.tensor([-alpha], dtype=torch.float64), d, q)) == found


@pytest.mark.parametrize("ahead", [10.0, 62.0])
def test_slopes_too_small_to_be_squared_are_measured(referee, linear, images, procedure, ahead):
    """That of cross-entropy is e^-62 |w| where a network is sure by 62; its square is no float32."""
    w, x0 = apart(linear(SHAPE)), images(1, SHAPE, low=0.45, high=0.55)

    def sure(x, game, turn):
        margin = ahead + ((x - x0[game]) * w).flatten(1).sum(dim=1)
        return torch.stack([margin, torch.zeros(len(x))], dim=1)

    def steps(games):
        slopes = Slopes(games, PriorRGF(length_probes=200, mu=1e-4))
        slopes.base[:] = -nn.functional.softplus(torch.tensor(-ahead))
        length = yield from slopes.length(games.x0, games.open)
        return length, (yield from slopes.along(games.x0, unit(w[None]), games.open))

    run = procedure(steps)
    referee(sure, x0, torch.zeros(1, dtype=torch.int64), Threat(norm="l2", epsilon=1.0, budget=201)).play(run)
    length, slope = (float(found) * math.exp(ahead) for found in run.result)
    assert slope == pytest.approx(float(w.norm()), rel=0.05)
    assert length == pytest.approx(slope, rel=0.25)


def test_a_probe_whose_answer_does_not_move_is_doubled(played, linear):
    network = Linear(linear(SHAPE).weight)

    def constant(x, game, turn):
        return torch.tensor([5.0, 0.0]).expand(len(x), 2).clone()

    attacker = PriorRGF(directions=8, every=100)
    table = played(constant, [network], attacker, Threat(norm="l2", epsilon=5.0, budget=150), 1)
    queries, asked = table.queries(0), table.purposes(0)
    lengths = [
        float((queries[n] - table.x0[0]).norm()) for n, purpose in enumerate(asked) if purpose == "prior"
    ]
    start = 1e-4 * math.sqrt(D)
    assert lengths == pytest.approx([start * min(2**n, MOST) for n in range(len(lengths))], rel=1e-2)
    assert len(lengths) > 9


def test_a_refused_probe_is_not_doubled(played, linear):
    """The steps are base, prior, 2 directions each, after 10 of the length, of which the third prior is."""
    model = linear(SHAPE)
    attacker, threat = (
        PriorRGF(directions=2, every=100, loss="margin"),
        Threat(norm="l2", epsilon=5.0, budget=40),
    )
    table = played(far(model), [Blank(), orthogonal(model)], attacker, threat, 1, refuse=lambda g, t: t >= 12)
    x, asked = table.queries(0), table.purposes(0)
    priors = [x[n] - x[0] for n, purpose in enumerate(asked) if purpose == "prior"]
    assert len(priors) > 4
    assert [float(p.norm()) for p in priors] == pytest.approx([1e-4 * math.sqrt(D)] * len(priors), rel=1e-2)


@pytest.mark.parametrize("quantisation", ["round", "floor"])
def test_where_the_service_rounds_a_probe_is_a_level(played, linear, quantisation):
    model, epsilon = linear(SHAPE), 16 / 255
    threat = Threat(epsilon=epsilon, budget=60, quantisation=quantisation)
    table = played(model, [Linear(model.weight)], PriorRGF(), threat, 8)
    z = model(table.x0, None, None)
    reach = epsilon * apart(model).abs().sum()
    within = [g for g in range(8) if 0 < z[g, 0] - z[g, 1] < 0.6 * reach]
    assert within and all(table.hits[g] for g in within)
    step = (table.queries(within[0])[11] - table.queries(within[0])[0]).abs().max()
    assert float(step) >= LEVEL - 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_it_breaks_what_is_within_reach(played, linear, norm, goal):
    model = linear(SHAPE, classes=2)
    epsilon = 0.1 if norm == "linf" else 1.0
    w = apart(model)
    reach = epsilon * (w.abs().sum() if norm == "linf" else w.norm())
    threat = Threat(norm=norm, epsilon=epsilon, budget=300, goal=goal)

    def shifted(x, game, turn):
        return model(x, game, turn) + torch.tensor([0.6 * float(reach), 0.0])

    target = torch.ones(6, dtype=torch.int64) if goal == "targeted" else None
    table = played(shifted, [Linear(model.weight)], PriorRGF(), threat, 6, 0.499, target=target)
    assert all(table.hits[game] for game in range(6))
    assert max(hits[0] for hits in table.hits) < 150


def test_steps_are_a_share_of_epsilon():
    assert ETA["linf"] * 0.05 == pytest.approx(0.005)
    assert ETA["l2"] == pytest.approx(2 / math.sqrt(0.001 * 299 * 299 * 3), rel=1e-2)


def test_games_do_not_depend_on_the_batch_or_on_max_rows(referee, linear, images):
    model = linear(SHAPE)
    x0, key = images(5, SHAPE), torch.tensor([7, 3, 11, 2, 900])
    label = model(x0, None, None).argmax(dim=1)
    network = Linear(model.weight + torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3)) * 4)
    threat, attacker = Threat(epsilon=0.02, budget=120), PriorRGF(directions=20, loss="margin")

    def play(rows, **more):
        table = referee(model, x0[rows], label[rows], threat, key=key[rows], seed=3, **more)
        table.seat.resources = Resources(surrogates=(network,))
        return table.play(attacker)

    together = play(slice(0, 5))
    cut = play(slice(0, 5), max_rows=7)
    for game in range(5):
        alone = play(slice(game, game + 1))
        assert torch.equal(alone.queries(0), together.queries(game))
        assert torch.equal(cut.queries(game), together.queries(game))


def test_under_submit_it_stops_where_it_would_alone(played, linear):
    """Wrong at the sixth query, of those that measure the gradient's length, or at the twentieth."""
    network = Linear(linear(SHAPE).weight)
    for hit in (6, 20):

        def model(x, game, turn, hit=hit):
            margin = torch.where((game == 0) & (turn == hit), -1.0, 5.0 + torch.rand(len(x)))
            return torch.stack([margin, torch.zeros(len(x))], dim=1)

        asked = set()
        for games, most in ((1, 4096), (3, 4096), (3, 7), (3, 1)):
            threat = Threat(epsilon=0.1, budget=60, objective="submit")
            attacker = PriorRGF(directions=24, length_probes=10)
            table = played(model, [network], attacker, threat, games, max_rows=most)
            assert 0 in table.submitted
            assert torch.equal(table.submitted[0], table.queries(0)[hit - 1])
            asked.add(len(table.asked[0]))
        assert asked == ({6} if hit == 6 else {20})


def test_a_refused_answer_teaches_nothing(played, linear):
    model = linear(SHAPE)
    threat = Threat(epsilon=0.1, budget=100)
    table = played(far(model), [Linear(model.weight)], PriorRGF(), threat, 2, refuse=lambda g, turn: True)
    for game in range(2):
        bases = [x for x, p in zip(table.queries(game), table.purposes(game), strict=True) if p == "base"]
        assert all(torch.equal(x, table.x0[game]) for x in bases)


def test_what_it_needs():
    needs = PriorRGF().needs
    granted = GrantedResources(surrogates=(NamedNetwork(network="net"),))
    assert needs.unmet(Threat(epsilon=0.1, budget=1, resources=granted)) is None
    assert "reference network" in (needs.unmet(Threat(epsilon=0.1, budget=1)) or "")
    assert "scores" in (needs.unmet(Threat(epsilon=0.1, budget=1, feedback="label")) or "")


@pytest.mark.parametrize("wrong", [{"mu": 0.0}, {"directions": 0}, {"eta": -1.0}, {"every": 0}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PriorRGF(**wrong)
