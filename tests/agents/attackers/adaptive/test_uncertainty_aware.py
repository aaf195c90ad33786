from dataclasses import dataclass, field

import pytest
import torch

import arena
from agents.attackers.adaptive.uncertainty_aware import UncertaintyAware
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.score.square import Square
from arena.players import Attacker
from arena.rules.purposes import CANDIDATE, GRADIENT, SEARCH
from arena.rules.threat import Threat

RULES = ["any", "all", "majority"]


@dataclass(frozen=True)
class Reads(Attacker):
    """Asks once for the image at a height above the plane, as an estimate does; keeps what it reads."""

    plane: object
    height: float
    purpose: str = GRADIENT
    read: list = field(default_factory=list)

    def play(self, games):
        x = games.x0 + (self.height - self.plane.height(games.x0)).view(-1, 1, 1, 1) * self.plane.w
        self.read.append((yield from games.fools(x, None, self.purpose)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_detected_point_reads_by_the_rule_on_both_sides_alike(plane, toy_coin, rule, side, k):
    """1 - 2^-k by `any`, 2^-k by `all`; by the majority a coin remains, less the ties of an even k."""
    world = plane(3000)
    probe = Reads(world, 0.02 * side)
    attack = UncertaintyAware(probe, repeats=k, rule=rule)
    rules = {"norm": "l2", "epsilon": 2.0, "budget": k, "feedback": "label", "objective": "minimum"}
    arena.play(
        attack,
        toy_coin(),
        classifier=world,
        images=world.x0,
        labels=world.label,
        threat=rules,
        shard=3000,
        votes=1,
    )
    share = float(probe.read[0].double().mean())
    expected = {"any": 1 - 2**-k, "all": 2**-k, "majority": {1: 0.5, 2: 0.25, 5: 0.5}[k]}[rule]
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 3000) ** 0.5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("side", [-1, 1])
def test_what_is_not_detected_reads_as_it_is(plane, toy_coin, rule, side):
    world = plane(4)
    probe = Reads(world, 0.06 * side)
    rules = {"norm": "l2", "epsilon": 2.0, "budget": 5, "feedback": "label", "objective": "minimum"}
    attack = UncertaintyAware(probe, rule=rule)
    arena.play(attack, toy_coin(), classifier=world, images=world.x0, labels=world.label, threat=rules)
    assert probe.read[0].tolist() == [side > 0] * 4


@dataclass(frozen=True)
class Reaches(HopSkipJump):
    """HopSkipJump that keeps the boundary points it comes to, [G,C,H,W]."""

    points: list = field(default_factory=list)

    def estimate(self, games, x, i, delta, probes):
        self.points[:] = self.points or [games.x0.clone()]
        self.points[0][i] = x
        return (yield from super().estimate(games, x, i, delta, probes))


@pytest.mark.parametrize(("rule", "frontier"), [("any", -0.05), ("all", 0.05)])
def test_it_walks_to_the_detectors_frontier_and_stands_by_an_image_beyond_it(plane, toy_coin, rule, frontier):
    """`any` walks to where detection begins, `all` to where it ends; both claim what wins its vote."""
    world, inner = plane(12), Reaches()
    attack = UncertaintyAware(inner, repeats=10, rule=rule, scope="every_decision", convention="adaptive")
    rules = {"norm": "l2", "epsilon": "inf", "budget": 500, "feedback": "label", "objective": "minimum"}
    run = arena.play(
        attack, toy_coin(), classifier=world, images=world.x0, labels=world.label, threat=rules, votes=50
    )
    assert float(world.height(inner.points[0]).median()) == pytest.approx(frontier, abs=0.01)
    final = world.height(torch.from_numpy(run.images))
    assert float(final.median()) > 0.05
    assert (run.vote > 0.5).mean() > 0.8


def test_only_estimates_are_repeated_unless_every_decision_is(says, asks):
    plan = (((0, 0), GRADIENT), ((0,), SEARCH), ((0,), CANDIDATE))
    script = [0, 1, 0, 0, 0, 0, 1, 0, 0, 1]
    probe = asks(plan)
    played = says(script, feedback="logits").play(UncertaintyAware(probe, repeats=3))
    assert played.volleys == [6, 1, 3]
    games, *heard = probe.heard
    assert [answers.label.tolist() for answers in heard] == [[1, 0], [1], [1]]
    assert all(answers.scores is None for answers in heard)
    assert games.threat.feedback == "label"
    probe = asks(plan)
    played = says(script).play(UncertaintyAware(probe, repeats=3, scope="every_decision"))
    assert played.volleys == [6, 3, 3]


def test_the_budget_inside_is_one_that_it_can_rely_on_and_the_true_one_is_used_up(says, asks):
    """23 queries at k = 5: five estimates at least; each query asked once leaves more of them."""
    one, many = ((0,), SEARCH), ((0,), GRADIENT)
    probe = asks((one, one, one, many, many, one, many, many))
    played = says([0] * 100, budget=23).play(UncertaintyAware(probe, repeats=5))
    games, *heard = probe.heard
    left = [games.threat.budget, *(int(answers.left) for answers in heard)]
    assert left == [5, 5, 5, 4, 3, 2, 2, 1, 0]
    assert [len(played.asked[0]), played.open[0]] == [23, False]
    assert [bool(answers.open) for answers in heard] == [n > 0 for n in left[1:]]
    assert heard[-1].answered.tolist() == [True]


@pytest.mark.parametrize("scope", ["estimation", "every_decision"])
@pytest.mark.parametrize("budget", [1, 13, 90])
def test_the_true_budget_is_never_exceeded(referee, linear, images, scope, budget):
    threat = Threat(norm="l2", epsilon=9.0, budget=budget, feedback="label", objective="minimum")
    model, x0 = linear((1, 4, 4)), images(3, (1, 4, 4))
    label = model(x0, torch.arange(3), torch.ones(3)).argmax(dim=1)
    attack = UncertaintyAware(HopSkipJump(init_draws=50), repeats=4, scope=scope)
    played = referee(model, x0, label, threat).play(attack)
    assert [len(asked) for asked in played.asked] == [budget] * 3


def test_conventions_and_errors():
    assert UncertaintyAware(HopSkipJump(), repeats=7).budget_factor == 1
    assert UncertaintyAware(HopSkipJump(), repeats=7, convention="adaptive").budget_factor == 7
    with pytest.raises(ValueError, match="repeats must be at least 1; found 0"):
        UncertaintyAware(HopSkipJump(), repeats=0)
    with pytest.raises(ValueError, match="UncertaintyAware goes around attackers that decide by labels"):
        UncertaintyAware(Square())
