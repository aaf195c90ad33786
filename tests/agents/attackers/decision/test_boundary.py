from pathlib import Path

import pytest
import torch

import arena
from agents.attackers.decision.boundary import Boundary
from agents.attackers.parts.walks import BoxProposals, SphereProposals, length
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import DatasetSpec
from arena.datasets.loading import load_dataset
from arena.rules.moves import Claim
from arena.rules.threat import Threat

SHAPE = (1, 6, 6)
CLOSE = Threat(norm="l2", epsilon="inf", budget=400, feedback="label", objective="minimum")


def seat(referee, linear, images, threat=CLOSE, count=4, shape=(3, 8, 8)):
    x0 = images(count, shape, low=0.3, high=0.7)
    return referee(linear(shape), x0, torch.zeros(count, dtype=torch.int64), threat).seat


def test_a_candidate_is_epsilon_nearer_and_never_beyond_x0(referee, linear, images):
    games = seat(referee, linear, images)
    proposals = SphereProposals()
    delta = torch.randn(games.x0.shape, generator=torch.Generator().manual_seed(3)).mul_(0.02)
    x0, distance = games.x0, length(delta)
    sigma = torch.full((4,), 0.01, dtype=torch.float64)
    z = proposals.across(x0, delta, distance, sigma, proposals.noise(games, x0.shape[1:], games.open))
    assert torch.allclose(length(z - x0), distance, rtol=1e-6)
    epsilon = torch.tensor([1e-3, 0.2, 1.0, 7.0], dtype=torch.float64)
    found = proposals.distance(proposals.inwards(x0, z, distance, epsilon) - x0)
    assert torch.allclose(found[:2], (1 - epsilon[:2]) * distance[:2], rtol=1e-6)
    assert found[2:].max() < 1e-6
    clipped = x0 + 0.9 * delta  # nearer than epsilon asks for
    assert torch.equal(proposals.inwards(x0, clipped, distance, epsilon)[0], clipped[0].clamp(0, 1))


def test_in_the_box_signs_move_and_the_box_shrinks(referee, linear, images):
    games = seat(referee, linear, images)
    proposals = BoxProposals()
    delta = torch.rand(games.x0.shape, generator=torch.Generator().manual_seed(3)).sub_(0.5).mul_(0.2)
    x0, r = games.x0, proposals.distance(delta)
    sigma = torch.full((4,), 0.1, dtype=torch.float64)
    z = proposals.across(x0, delta, r, sigma, proposals.noise(games, x0.shape[1:], games.open))
    off, step = (z - x0).double(), (0.1 * r).view(-1, 1, 1, 1)
    up = torch.minimum(delta + step, r.view(-1, 1, 1, 1))
    down = torch.maximum(delta - step, -r.view(-1, 1, 1, 1))
    rose = (off - up).abs() < 1e-6
    assert (rose | ((off - down).abs() < 1e-6)).all()
    assert 0.4 < rose.double().mean() < 0.6
    shrunk = proposals.inwards(x0, z, r, sigma)
    limit = (0.9 * r).view(-1, 1, 1, 1)
    assert torch.allclose((shrunk - x0).double(), off.clamp(-limit, limit), atol=1e-6)


@pytest.mark.parametrize(("rules", "queries"), [("original", (31, 501)), ("foolbox", (2, 26))])
def test_the_linear_scan_finds_the_first_of_several_bands(referee, rules, queries):
    x0 = torch.zeros(2, 1, 4, 4)

    def banded(x, game, turn):
        """Adversarial at .0305 to .09 of the way to noise and from .5 on, in the second game from .5 on."""
        share = x.flatten(1).amax(dim=1)
        share = share / torch.tensor([share_of_start[g] for g in game.tolist()])
        wrong = (share > 0.5) | ((share > 0.0305) & (share < 0.09) & (game == 0))
        return torch.stack([-wrong.float(), wrong.float()], dim=1)

    share_of_start = {0: 1e-9, 1: 1e-9}  # so that the noise drawn is adversarial
    threat = CLOSE.with_budget(queries[1] + 30)
    table = referee(banded, x0, torch.zeros(2, dtype=torch.int64), threat)
    ask = table.ask

    def remember(volley):
        if volley.purpose == "start":
            for g, x in zip(volley.game.tolist(), volley.x, strict=True):
                share_of_start[g] = float(x.max())
        return ask(volley)

    table.ask = remember
    table.play(Boundary(rules=rules, init_search="linear"))
    for game, blends in enumerate(queries):
        purposes = table.purposes(game)
        assert purposes.count("start") == 1
        assert abs(purposes.count("boundary-search") - blends) <= 1
        assert purposes[blends + 3 :] == ["candidate"] * (queries[1] + 30 - blends - 3)


@pytest.mark.parametrize(
    ("rules", "norm", "walk", "bounds"),
    [
        pytest.param("original", "l2", "l2", (2.9, 2.4), marks=pytest.mark.slow),
        ("original", "linf", "l2", (4.0, 3.3)),
        pytest.param("original", "linf", "box", (2.8, 2.4), marks=pytest.mark.slow),
        ("foolbox", "l2", "l2", (2.9, 2.4)),
        pytest.param("art", "l2", "l2", (4.0, 1.3), marks=pytest.mark.slow),
        ("art", "linf", "box", (5.5, 1.8)),
    ],
)
def test_it_nears_a_flat_boundary(flat_boundary, rules, norm, walk, bounds):
    plane = flat_boundary((1, 4, 4), games=6)
    ratios, result = plane.ratios(Boundary(rules=rules, linf_walk=walk), norm, budget=600, at=[150])
    assert 1 <= ratios[1] < bounds[1] and ratios[0] < bounds[0]
    assert set(result.reason) == {"budget"} and (result.queries == 600).all()


class Art:
    """ART's walk of one game in plain float64, by the same draws; `asked` are its queries."""

    def __init__(self, attack, table, game):
        self.attack, self.table, self.game, self.asked = attack, table, game, []
        self.x0 = table.x0[game].double()
        key, i = torch.tensor([game]), torch.zeros(1, dtype=torch.int64)
        alone = type(table)(table.model, table.x0[game : game + 1], i, table.threat, key=key).seat
        self.uniform = lambda: alone.uniform(self.x0.shape, i)[0].double()
        self.normal = lambda: alone.normal((attack.samples, *self.x0.shape), i)[0].double()

    def ask(self, points):
        """Whether each is adversarial; EOFError after the last query."""
        answers = []
        for x in points:
            if len(self.asked) == self.table.threat.budget:
                raise EOFError
            self.asked.append(x)
            game, turn = torch.tensor([self.game]), torch.tensor([len(self.asked)])
            answers.append(bool(self.table.model(x.float().unsqueeze(0), game, turn).argmax() == 1))
        return answers

    def play(self):
        try:
            x = self.uniform()
            while self.ask([x]) != [True]:
                x = self.uniform()
            self.walk(x)
        except EOFError:
            return "budget"
        return "barren"

    def walk(self, x):
        sigma, epsilon = self.attack.spherical_step, self.attack.source_step
        while True:
            for _ in range(self.attack.trials):
                points = [self.around(x, g, sigma) for g in self.normal()]
                hits = [p for p, hit in zip(points, self.ask(points), strict=True) if hit]
                sigma *= self.change(len(hits) / len(points))
                if hits:
                    break
            else:
                return
            for _ in range(self.attack.trials):
                points = [(p + epsilon * (self.x0 - p)).clamp(0, 1) for p in hits]
                inside = [p for p, hit in zip(points, self.ask(points), strict=True) if hit]
                epsilon *= self.change(len(inside) / len(points))
                if inside:
                    x = min(inside, key=lambda p: (p - self.x0).norm())
                    break
            else:
                return

    def around(self, x, g, sigma):
        delta = x - self.x0
        g = g - (g * delta).sum() / delta.square().sum() * delta
        return (self.x0 + (delta + sigma * delta.norm() * g / g.norm()) / (1 + sigma**2) ** 0.5).clamp(0, 1)

    def change(self, rate):
        return 1.5 if rate > 0.5 else 1 / 1.5 if rate < 0.2 else 1.0


def test_volleys_are_those_of_art(referee):
    """A game to the budget, one without hits on the sphere from some turn on, one without hits inwards."""
    x0 = torch.zeros(3, 1, 6, 6)  # where clips tell distances apart, or rounding would say which is nearest
    w = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(2)) + 0.5
    label, threat = torch.zeros(3, dtype=torch.int64), CLOSE.with_budget(160)
    start = referee(lambda x, game, turn: torch.ones(len(x), 2), x0, label, threat).seat.uniform((1, 6, 6))

    def model(x, game, turn):
        x = x.double()
        f = (x * w).flatten(1).sum(dim=1) - 1.0
        f = torch.where((game == 1) & (turn > 60), -1.0, f)
        f = torch.where(game == 2, x.flatten(1).norm(dim=1) - 0.95 * start[2].double().norm(), f)
        return torch.stack([torch.zeros_like(f), 1e6 * f], dim=1)

    attack = Boundary(rules="art", spherical_step=0.1, source_step=0.2, samples=7, trials=3)
    tables = [referee(model, x0, label, threat, max_rows=rows).play(attack) for rows in (4096, 15)]
    ends = []
    for game in range(3):
        art = Art(attack, tables[0], game)
        ends.append(art.play())
        for table in tables:
            assert len(table.asked[game]) == len(art.asked)
            assert torch.allclose(table.queries(game).double(), torch.stack(art.asked), atol=1e-5)
        assert torch.equal(tables[0].queries(game), tables[1].queries(game))
    assert ends == ["budget", "barren", "barren"]
    assert max(tables[0].volleys) > 15 >= max(tables[1].volleys)


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


@pytest.mark.slow
def test_it_resigns_only_where_no_step_leads_nearer(referee):
    def model(x, game, turn):
        """Adversarial from .05 in the first pixel on; in the first game nothing is after 60 queries."""
        far = torch.where((game == 0) & (turn > 60), -1.0, x[:, 0, 0, 0] - 0.05)
        return torch.stack([torch.zeros_like(far), 1e6 * far], dim=1)

    coarse = Boundary(rules="original", step_adaptation=1e3, candidates=2, spherical_every=1)
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
        ({"samples": 0}, "samples must be at least 1; found 0"),
    ],
)
def test_a_wrong_parameter_is_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        Boundary(**wrong)
