from types import SimpleNamespace

import pytest
import torch
from scipy.stats import beta, binom

from agents.attackers.adaptive.eot import EOT
from agents.attackers.adaptive.vote import Vote
from agents.attackers.decision.boundary import Boundary
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.rays import RayS
from agents.attackers.parts.claims import OUTWARD, REPEAT, lower_bound, repeats_for, stand_by
from agents.attackers.score.square import Square
from arena.rules.geometry import quantise
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)
M = 29


@pytest.mark.parametrize(("quantisation", "level"), [("none", 51.0), ("round", 51.4), ("floor", 51.9)])
@pytest.mark.parametrize("facts", [True, False])
def test_what_lies_on_the_border_of_the_ball_is_handed_in(referee, linear, quantisation, level, facts):
    """As the referee counts: 51 levels are .2, and float32 puts the difference a little above."""
    shape = (1, 3, 3)
    x0 = torch.tensor([100.0, 200.0]).view(-1, 1, 1, 1).expand(2, *shape) / 255
    x = x0 + torch.tensor([level, level - 102]).view(-1, 1, 1, 1) / 255
    rules = {"feedback": "label", "objective": "submit", "quantisation": quantisation}
    threat = Threat(norm="linf", epsilon=0.2, budget=2 + M, **rules)
    desk = referee(always_wrong, x0, torch.zeros(2, dtype=torch.int64), threat, facts=facts)
    assert (desk.seat.distance(quantise(x, quantisation)) > threat.epsilon).any()
    desk.play(SimpleNamespace(play=lambda games: after_a_probe(games, x)))
    assert sorted(desk.submitted) == [0, 1]
    assert all(hits == list(range(1, 2 if facts else M + 2)) for hits in desk.hits)  # all were in the ball


def always_wrong(x, game, turn):
    return torch.tensor([[0.0, 1.0]]).expand(len(x), 2)


def after_a_probe(games, x, then=1):
    """Asks for x0 once and stands by `x`, as often as `then`."""
    for _ in range(then):
        i = games.open
        yield from games.ask(games.x0[i], i, "probe")
        i = games.open
        yield from stand_by(games, x[i], i)


# The figures


def test_bounds_are_those_of_clopper_and_pearson():
    for n in range(1, M + 1):
        wrong = torch.arange(1, n + 1)
        exact = torch.from_numpy(beta.ppf(0.05, wrong.numpy(), n - wrong.numpy() + 1))
        assert torch.allclose(lower_bound(wrong, torch.full_like(wrong, n)), exact, atol=1e-9)
    assert lower_bound(torch.tensor([0, 0]), torch.tensor([0, 29])).tolist() == [0, 0]


@pytest.mark.parametrize(("theta", "m"), [(0.9, M), (0.5, 5)])
def test_m_is_the_least_number_of_wrong_answers_that_show_a_share(theta, m):
    assert repeats_for(theta) == m
    assert theta**m <= 0.05 < theta ** (m - 1)


# The test of one image


@pytest.fixture
def desk(referee):
    """desk(lies, ...): game g is answered wrong but at turns in lies[g]; from there `play` takes over."""

    def make(lies, *, objective="submit", budget=200, facts=False, **more):
        def model(x, game, turn):
            right = torch.tensor([t in lies[g] for g, t in zip(game.tolist(), turn.tolist(), strict=True)])
            return torch.stack([right.float(), 0.5 * torch.ones(len(x))], dim=1)

        games = len(lies)
        x0 = torch.full((games, *SHAPE), 0.5)
        threat = Threat(epsilon=0.1, budget=budget, feedback="label", objective=objective)
        return referee(model, x0, torch.zeros(games, dtype=torch.int64), threat, facts=facts, **more)

    return make


def near(desk):
    """Images half-way to the border of the ball."""
    return desk.x0 + 0.05


def test_only_m_wrong_answers_and_no_other_hand_an_image_in(desk):
    """In volleys of 1, 1, 2, 4, 8 and 13; the first volley with a right answer or a refusal is the last."""
    played = desk([{}, {M + 1}, {4}, {2}, {}], refuse=lambda game, turn: game == 4 and turn == 3)
    x = near(played)
    played.play(SimpleNamespace(play=lambda games: after_a_probe(games, x)))
    assert sorted(played.submitted) == [0]
    assert torch.allclose(played.submitted[0], played.x0[0] + 0.1)
    assert [played.purposes(g).count(REPEAT) for g in range(5)] == [M, M, 4, 1, 2]
    assert played.volleys == [5, 5, 4, 6, 8, 16, 26]
    assert sorted(played.claims) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("objective", ["submit", "minimum"])
def test_where_answers_are_facts_nothing_is_asked_again(desk, objective):
    played = desk([{}], objective=objective, facts=True)
    played.play(SimpleNamespace(play=lambda games: after_a_probe(games, near(played))))
    assert played.purposes(0) == ["probe"]
    assert len(played.submitted) == (objective == "submit")


@pytest.mark.parametrize("attacker", [Boundary(), HopSkipJump(), RayS(), Square(), EOT(Square())])
@pytest.mark.parametrize("objective", ["first", "submit", "minimum"])
def test_no_attacker_repeats_facts_nor_under_objective_first(referee, flat_boundary, attacker, objective):
    if objective not in attacker.needs.objectives:
        pytest.skip(f"it does not play objective {objective}")
    plane = flat_boundary(SHAPE, games=3)
    rules = {"objective": objective, "epsilon": 2 * float(plane.least["linf"].max()), "budget": 150}
    facts = objective != "first"
    y = torch.zeros(3, dtype=torch.int64)
    table = referee(plane.answer, plane.images, y, Threat(norm="linf", **rules), facts=facts).play(attacker)
    assert all(REPEAT not in table.purposes(game) for game in range(3))


def test_repeats_may_cost_a_quarter_of_the_queries_so_far(desk):
    """A test of 4 after the first query; the next when 4 are less than a quarter: after the 17th."""
    played = desk([{5, 21}])
    x = near(played)
    played.play(SimpleNamespace(play=lambda games: after_a_probe(games, x, then=20)))
    purposes = played.purposes(0)
    assert purposes[:5] == ["probe", *[REPEAT] * 4]
    assert purposes[5:17] == ["probe"] * 12 and purposes[17] == REPEAT


def test_the_last_test_may_cost_all_that_is_left(desk):
    def play(games):
        yield from games.ask(games.x0, None, "probe")
        for _ in range(2):
            yield from stand_by(games, near(played), games.open, last=True)

    played = desk([{2 + M - 1}], budget=50)
    played.play(SimpleNamespace(play=play))
    assert len(played.asked[0]) == 50 and not played.submitted


def test_the_image_claimed_is_the_one_believed_most_and_of_equals_the_lower(desk):
    """Game 0: 1 of 2, then 0 of 1, then 3 of 4; game 1: 1 of 2 twice, nearer and then farther."""

    def play(games):
        for length in (0.06, 0.04, 0.05):
            yield from games.ask(games.x0[i], i, "probe")
            direction = torch.where(torch.arange(16).view(SHAPE) < 1000 * length - 30, 1.0, -1.0)
            yield from stand_by(games, games.x0 + length * direction, i, last=True)

    i = torch.arange(2)
    played = desk([{3, 5, 10}, {3, 6, 9}])
    played.play(SimpleNamespace(play=play))
    ups = [[int((x > 0.5).sum()) for x in played.claims[g]] for g in range(2)]
    assert ups == [[16, 16], [16, 10]]


def test_under_minimum_it_claims_the_nearest_image_that_wins_its_vote(referee):
    """Adversarial from a distance of 1.08 times the point on; later a nearer point, later a farther one."""

    def model(x, game, turn):
        far = (x - 0.5).abs().amax(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(far), far - 0.108], dim=1)

    def play(games):
        for length in (0.1, 0.09, 0.2):
            yield from games.ask(games.x0, None, "probe")
            yield from stand_by(games, games.x0 + length, games.open, last=True)

    threat = Threat(epsilon=0.5, budget=100, feedback="label", objective="minimum")
    x0 = torch.full((1, *SHAPE), 0.5)
    table = referee(model, x0, torch.zeros(1, dtype=torch.int64), threat, facts=False)
    table.play(SimpleNamespace(play=play))
    final = table.claims[0][-1]
    far = [float((x - 0.5).abs().max()) for x, purpose, _ in table.asked[0] if purpose == REPEAT]
    first = [0.1 * factor for factor in OUTWARD[:3]] + [0.11] * 5
    second = [0.09 * factor for factor in OUTWARD[:5]] + [0.09 * 1.2] * 4
    assert far == pytest.approx(first + second, abs=1e-6)
    assert float((final - 0.5).abs().max()) == pytest.approx(0.108, abs=1e-6)


def test_under_minimum_an_image_in_the_ball_comes_before_any_outside(referee):
    """Wrong always beyond .2 and at random within: the image claimed is outside, then inside to the end."""

    def model(x, game, turn):
        far = (x - 0.5).abs().amax(dim=(1, 2, 3))
        wrong = (far > 0.2) | (turn % 3 > 0)
        return torch.stack([torch.full_like(far, 0.5), wrong.float()], dim=1)

    def play(games):
        for length in (0.3, 0.18, 0.25):
            yield from games.ask(games.x0, None, "probe")
            yield from stand_by(games, games.x0 + length, games.open, last=True)

    threat = Threat(epsilon=0.2, budget=200, feedback="label", objective="minimum")
    x0 = torch.full((1, *SHAPE), 0.5)
    table = referee(model, x0, torch.zeros(1, dtype=torch.int64), threat, facts=False)
    table.play(SimpleNamespace(play=play))
    far = [float((x - 0.5).abs().max()) for x in table.claims[0]]
    assert far[0] == pytest.approx(0.3) and len(far) > 1 and max(far[1:]) < 0.2 + 1e-6


# Against a service whose share of wrong answers is known


@pytest.mark.parametrize("p", [0.5, 0.9, 1.0])
def test_how_often_an_image_is_handed_in_by_its_share_of_wrong_answers(referee, p):
    """One test of each of 400: p^29, which is 2e-9, .047 and 1; between the .1 % and 99.9 % quantiles."""
    generator = torch.Generator().manual_seed(4)

    def model(x, game, turn):
        wrong = torch.rand(len(x), generator=generator) < p
        return torch.stack([torch.zeros(len(x)), wrong.float() - 0.5], dim=1)

    x0 = torch.full((400, *SHAPE), 0.5)
    threat = Threat(epsilon=0.1, budget=1 + M, feedback="label", objective="submit")
    table = referee(model, x0, torch.zeros(400, dtype=torch.int64), threat, facts=False)

    def play(games):
        yield from stand_by(games, games.x0 + 0.05, games.open, last=True)

    table.play(SimpleNamespace(play=play))
    low, high = binom.ppf([0.001, 0.999], 400, p**M)
    assert low <= len(table.submitted) <= high
    assert {0.5: high == 0, 0.9: 5 < low < high < 40, 1.0: low == 400}[p]


# Behind wrappers


def test_a_wrapper_asks_repeats_once_and_their_share_is_of_the_services_queries(desk):
    """Three queries behind a vote of 3 allow a second test where the inner seat counts one."""

    def play(games):
        for _ in range(2):
            yield from games.ask(games.x0, None, "probe")
            yield from stand_by(games, near(played), games.open)

    inner = SimpleNamespace(play=play, needs=HopSkipJump().needs, budget_factor=1)
    played = desk([{4, 8}])
    played.play(Vote(inner, repeats=3))
    assert played.purposes(0) == ["probe"] * 3 + [REPEAT] + ["probe"] * 3 + [REPEAT]
    played = desk([{4}])
    played.play(Vote(inner, repeats=3))
    assert played.purposes(0)[7:] == [REPEAT] * M and sorted(played.submitted) == [0]
