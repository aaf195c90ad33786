from collections import deque
from pathlib import Path

import pytest
import torch

import arena
from agents.attackers.decision.boundary import Boundary, BoxProposals, SphereProposals, Steps
from agents.attackers.decision.walks import length
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import DatasetSpec
from arena.datasets.loading import load_dataset
from arena.moves import Claim
from arena.threat import Threat

SHAPE = (1, 6, 6)
CLOSE = Threat(norm="l2", epsilon="inf", budget=400, feedback="label", objective="minimum")


class Original:
    """The step sizes of one game by the rules of foolbox 2.4, in plain Python."""

    def __init__(self, rules):
        self.rules, self.sigma, self.epsilon = rules, rules.spherical_step, rules.source_step
        self.spherical, self.source = deque(maxlen=100), deque(maxlen=30)
        self.step, self.resetted, self.remaining = 1, False, 100

    def plays(self):
        """Yields whether the sphere is asked next, receives the answer; returns when it has converged."""
        while True:
            converged = self.epsilon < (1e-7 if self.remaining == 100 else 2e-7)
            if converged and self.resetted:
                self.remaining -= 1
                if self.remaining == 0:
                    return
            elif converged:
                self.resetted = True
                self.sigma, self.epsilon = self.rules.spherical_step, self.rules.source_step
            elif self.remaining < 100:
                self.remaining, self.resetted = 100, False
            tests = self.step % self.rules.spherical_every == 0 or self.resetted
            for _ in range(self.rules.candidates):
                if tests:
                    adversarial = yield True
                    self.spherical.append(adversarial)
                    if not adversarial:
                        continue
                adversarial = yield False
                if tests:
                    self.source.append(adversarial)
                if adversarial:
                    break
            self.adapt()
            self.step += 1

    def adapt(self):
        full = len(self.spherical) == 100, len(self.source) == 30
        rates = sum(self.spherical) / 100, sum(self.source) / 30
        factor = self.rules.step_adaptation
        if full[0] and not 0.2 <= rates[0] <= 0.5:
            up = rates[0] > 0.5
            self.sigma = self.sigma * factor if up else self.sigma / factor
            self.epsilon = self.epsilon * factor if up else self.epsilon / factor
            self.spherical.clear()
        if full[1] and not 0.2 <= rates[1] <= 0.5:
            self.epsilon = self.epsilon * factor if rates[1] > 0.5 else self.epsilon / factor
            self.source.clear()


@pytest.mark.parametrize(
    "rules",
    [
        Boundary(spherical_every=3, candidates=3),
        Boundary(spherical_every=2, candidates=2, step_adaptation=1e3),
    ],
    ids=["often", "coarse"],
)
def test_steps_change_as_in_the_authors_code(rules):
    chances = [(0.9, 0.9), (0.1, 0.05), (0.4, 0.35), (0.95, 0.0), (0.3, 0.1)]  # on the sphere, inwards
    games = [Original(rules) for _ in chances]
    plays = [game.plays() for game in games]
    asks = [next(play) for play in plays]
    steps, i = Steps(rules, len(games) + 1, torch.device("cpu")), torch.arange(1, len(games) + 1)
    tested = torch.zeros(len(games), dtype=torch.bool)
    luck = torch.Generator().manual_seed(0)
    resets = 0
    for _ in range(1000):
        spherical = steps.tests_sphere(i) & ~tested
        assert spherical.tolist() == asks
        chance = torch.tensor([chances[k - 1][not a] for k, a in zip(i.tolist(), asks, strict=True)])
        fooled = torch.rand(len(i), generator=luck) < chance
        tested = spherical & fooled
        done = steps.record(i, spherical, fooled).tolist()
        asks, over = [], []
        for k, play in enumerate(plays):
            try:
                asks.append(play.send(bool(fooled[k])))
            except StopIteration:
                over.append(k)
        assert done == over
        stay = [k for k in range(len(plays)) if k not in over]
        plays, games, i, tested = [plays[k] for k in stay], [games[k] for k in stay], i[stay], tested[stay]
        resets += sum(game.resetted for game in games)
        for name in ("sigma", "epsilon"):
            expected = torch.tensor([getattr(game, name) for game in games], dtype=torch.float64)
            assert torch.allclose(getattr(steps, name)[i], expected, rtol=1e-9, atol=0)
    if rules.step_adaptation == 1e3:
        assert resets and len(games) < len(chances)  # some came to their end in this way
    assert steps.sigma[0] == rules.spherical_step


def seat(referee, linear, images, threat=CLOSE, count=4, shape=(3, 8, 8)):
    x0 = images(count, shape, low=0.3, high=0.7)
    return referee(linear(shape), x0, torch.zeros(count, dtype=torch.int64), threat).seat


def test_a_candidate_is_epsilon_nearer_and_never_beyond_x0(referee, linear, images):
    games = seat(referee, linear, images)
    i, proposals = games.open, SphereProposals(games)
    delta = torch.randn(games.x0.shape, generator=torch.Generator().manual_seed(3)).mul_(0.02)
    x0, distance = games.x0, length(delta)
    sigma = torch.full((4,), 0.01, dtype=torch.float64)
    z = proposals.across(x0, delta, distance, sigma, i)
    assert torch.allclose(length(z - x0), distance, rtol=1e-6)
    epsilon = torch.tensor([1e-3, 0.2, 1.0, 7.0], dtype=torch.float64)
    found = proposals.distance(proposals.inwards(x0, z, distance, epsilon) - x0)
    assert torch.allclose(found[:2], (1 - epsilon[:2]) * distance[:2], rtol=1e-6)
    assert found[2:].max() < 1e-6
    clipped = x0 + 0.9 * delta  # nearer than epsilon asks for
    assert torch.equal(proposals.inwards(x0, clipped, distance, epsilon)[0], clipped[0].clamp(0, 1))


def test_in_the_box_signs_move_and_the_box_shrinks(referee, linear, images):
    games = seat(referee, linear, images)
    proposals, i = BoxProposals(games), games.open
    delta = torch.rand(games.x0.shape, generator=torch.Generator().manual_seed(3)).sub_(0.5).mul_(0.2)
    x0, r = games.x0, proposals.distance(delta)
    sigma = torch.full((4,), 0.1, dtype=torch.float64)
    z = proposals.across(x0, delta, r, sigma, i)
    off, step = (z - x0).double(), (0.1 * r).view(-1, 1, 1, 1)
    up = torch.minimum(delta + step, r.view(-1, 1, 1, 1))
    down = torch.maximum(delta - step, -r.view(-1, 1, 1, 1))
    rose = (off - up).abs() < 1e-6
    assert (rose | ((off - down).abs() < 1e-6)).all()
    assert 0.4 < rose.double().mean() < 0.6
    shrunk = proposals.inwards(x0, z, r, sigma)
    limit = (0.9 * r).view(-1, 1, 1, 1)
    assert torch.allclose((shrunk - x0).double(), off.clamp(-limit, limit), atol=1e-6)


def test_the_linear_scan_finds_the_first_of_several_bands(referee):
    x0 = torch.zeros(2, 1, 4, 4)

    def banded(x, game, turn):
        """Adversarial at .0305 to .09 of the way to noise and from .5 on, in the second game from .5 on."""
        share = x.flatten(1).amax(dim=1)
        share = share / torch.tensor([share_of_start[g] for g in game.tolist()])
        wrong = (share > 0.5) | ((share > 0.0305) & (share < 0.09) & (game == 0))
        return torch.stack([-wrong.float(), wrong.float()], dim=1)

    share_of_start = {0: 1e-9, 1: 1e-9}  # so that the noise drawn is adversarial
    threat = CLOSE.with_budget(600)
    table = referee(banded, x0, torch.zeros(2, dtype=torch.int64), threat)
    answer = table.answer

    def remember(volley):
        if volley.purpose == "start":
            for g, x in zip(volley.game.tolist(), volley.x, strict=True):
                share_of_start[g] = float(x.max())
        return answer(volley)

    table.answer = remember
    table.play(Boundary(init_search="linear"))
    for game, queries in ((0, 31), (1, 501)):
        purposes = table.purposes(game)
        assert purposes.count("start") == 1
        assert abs(purposes.count("boundary-search") - queries) <= 1
        assert purposes[queries + 3 :] == ["candidate"] * (600 - queries - 3)


@pytest.mark.parametrize(
    ("norm", "options", "bounds"),
    [("l2", {}, (2.9, 2.4)), ("linf", {}, (4.0, 3.3)), ("linf", {"linf_walk": "box"}, (2.8, 2.4))],
    ids=["l2", "linf", "box"],
)
def test_it_nears_a_flat_boundary(flat_boundary, norm, options, bounds):
    plane = flat_boundary((1, 4, 4), games=6)
    ratios, result = plane.ratios(Boundary(**options), norm, budget=600, at=[150])
    assert 1 <= ratios[1] < bounds[1] and ratios[0] < bounds[0]
    assert set(result.reason) == {"budget"} and (result.queries == 600).all()


class Stands:
    """Plays an attacker and keeps what it claims: {game: [x]}."""

    def __init__(self, attacker):
        self.attacker, self.claims = attacker, {}

    def play(self, games):
        play, reply = self.attacker.play(games), None
        while True:
            try:
                move = play.send(reply)
            except StopIteration:
                return
            if isinstance(move, Claim):
                for game, x in zip(move.game.tolist(), move.x.clone(), strict=True):
                    self.claims.setdefault(game, []).append(x)
            reply = yield move


def test_in_linf_it_stands_by_the_nearest_in_linf_of_points_that_near_in_l2(referee, flat_boundary):
    plane = flat_boundary(SHAPE, games=3)
    threat, stands = CLOSE.model_copy(update={"norm": "linf"}), Stands(Boundary())
    table = referee(plane.answer, plane.images, torch.zeros(3, dtype=torch.int64), threat).play(stands)
    for game, claims in stands.claims.items():
        x0, asked = plane.images[game], table.queries(game)
        far = torch.stack([(x - x0).abs().max() for x in claims])
        assert len(claims) > 3 and (far.diff() < 0).all()
        answered = {x.numpy().tobytes() for x, _, z in table.asked[game] if z.argmax() == 1}
        assert all(x.numpy().tobytes() in answered for x in claims)
        walked = [x for x, (_, _, z) in zip(asked, table.asked[game], strict=True) if z.argmax() == 1]
        assert min((x - x0).abs().max() for x in walked) <= far[-1]


def test_what_comes_inside_the_ball_is_handed_in(referee, flat_boundary):
    plane = flat_boundary(SHAPE, games=3)
    ball = 3.0 * float(plane.least["l2"].max())
    threat = Threat(norm="l2", epsilon=ball, budget=800, feedback="label", objective="submit")
    table = referee(plane.answer, plane.images, torch.zeros(3, dtype=torch.int64), threat).play(Boundary())
    assert sorted(table.submitted) == [0, 1, 2]
    for game, x in table.submitted.items():
        assert (x - plane.images[game]).norm() <= ball
        assert plane(x.unsqueeze(0)).argmax() == 1


def test_it_resigns_only_where_no_step_leads_nearer(referee):
    def model(x, game, turn):
        """Adversarial from .05 in the first pixel on; in the first game nothing is after 60 queries."""
        far = torch.where((game == 0) & (turn > 60), -1.0, x[:, 0, 0, 0] - 0.05)
        return torch.stack([torch.zeros_like(far), 1e6 * far], dim=1)

    coarse = Boundary(step_adaptation=1e3, candidates=2, spherical_every=1)
    x0 = torch.zeros(2, 1, 4, 4)
    table = referee(model, x0, torch.zeros(2, dtype=torch.int64), CLOSE.with_budget(900)).play(coarse)
    ended, other = (len(asked) for asked in table.asked)
    # Two changes to converge, as many again after the reset, 100 outcomes each; 100 steps of two candidates.
    assert 400 + 200 <= ended < 700 and not table.open[0]
    assert other == 900


def test_success_on_digits_rises_with_queries():
    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    classifier = load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))
    images, labels = data.games.take(slice(0, 16)), data.games.labels[:16]
    threat = {"norm": "l2", "epsilon": 1.9, "budget": 500, "feedback": "label", "objective": "minimum"}
    result = arena.play(
        Boundary(), classifier=classifier, images=images, labels=labels, threat=threat, at=[50]
    )
    left = [result.accuracy(at=q) for q in (50, 500)]
    assert left[1] < 0.6 and left[1] < left[0] - 0.2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"spherical_step": 0.0}, "spherical_step must be finite and above 0; found 0.0"),
        ({"step_adaptation": 1.0}, "step_adaptation must be finite and above 1; found 1.0"),
        ({"candidates": 0}, "candidates must be at least 1; found 0"),
    ],
)
def test_a_wrong_parameter_is_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        Boundary(**wrong)
