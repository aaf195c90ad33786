"""What attackers do where answers are no facts: they go on, and a longer run begins as a shorter one."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import arena
from agents.attackers.decision.boundary import Boundary
from agents.attackers.decision.geoda import GeoDA
from agents.attackers.parts.claims import REPEAT
from agents.attackers.parts.directions import Descent, Directions
from agents.attackers.parts.starts import find_start
from agents.attackers.white_box.carlini_wagner import CarliniWagner
from agents.attackers.white_box.pgd import PGD
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import DatasetSpec, load_dataset
from arena.players.registry import build_attacker
from arena.players.seat import Resources
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)
FAR = Threat(norm="l2", epsilon=math.inf, budget=900, feedback="label", objective="minimum")
NOISE = {"name": "snd", "sigma": 0.02}
SQUARE, HOP = {"name": "square", "p": 0.3}, {"name": "hop-skip-jump"}
ATTACKERS = {
    "square": SQUARE,
    "random-search": {"name": "random-search", "mu": 0.1},
    "nes": {"name": "nes", "pairs": 5},
    "rgf": {"name": "rgf", "directions": 5},
    "bandits": "bandits",
    "simba": {"name": "simba", "basis": "pixel"},
    "sign-hunter": "sign-hunter",
    "parsimonious": {"name": "parsimonious", "batch": 7},
    "eot": {"name": "eot", "repeats": 3, "of": SQUARE},
    "hop-skip-jump": HOP,
    "vote": {"name": "vote", "repeats": 3, "of": HOP},
    "uncertainty-aware": {"name": "uncertainty-aware", "repeats": 3, "of": HOP},
    "pop-skip-jump": "pop-skip-jump",
    "boundary": "boundary",
    "boundary, original": {"name": "boundary", "rules": "original"},
    "guessing-smart": {"name": "guessing-smart", "start": "noise"},
    "cgba": "cgba",
    "geoda": "geoda",
    "rays": "rays",
    "sign-flip": "sign-flip",
    "surfree": "surfree",
    "rambo": "rambo",
    "opt": {"name": "opt", "init_draws": 3},
    "sign-opt": {"name": "sign-opt", "init_draws": 3, "probes": 20},
}


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_mark_of_a_longer_run_is_the_end_of_a_shorter_one(flat_boundary, name):
    """Unless the attacker says that it is not: then each count is a run of its own."""
    needs, world = build_attacker(ATTACKERS[name]).needs, flat_boundary(SHAPE, 4)
    if not needs.prefix:
        assert name in ("geoda", "guessing-smart")
        return
    norm = "l2" if "l2" in needs.norms else "linf"
    feedback = "label" if needs.feedback == "label" else "logits"
    for objective in set(needs.objectives) - {"first"}:
        epsilon = "inf" if objective == "minimum" else 4 * float(world.least[norm].max())
        rules = {"norm": norm, "epsilon": epsilon, "feedback": feedback, "objective": objective}
        more = {"norm": norm, "rules": rules, "votes": 5}
        one = world.play(ATTACKERS[name], NOISE, budget=130, at=[61], **more)
        other = world.play(ATTACKERS[name], NOISE, budget=61, **more)
        assert "error" not in one.reason
        for verdict in ("answered", "vote", "base", "l2", "linf"):
            np.testing.assert_array_equal(getattr(one.marks[61], verdict), getattr(other.marks[61], verdict))


def test_square_wins_more_votes_than_its_first_hits_do():
    """snd, digits: .19 and .39 over 100 images; 30 games, one standard error of the gain about .06."""
    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    classifier = load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))
    rules = {"epsilon": 0.15, "budget": 150}
    first, submit = (
        arena.play(
            SQUARE,
            {"name": "snd", "sigma": 0.05},
            classifier=classifier,
            images=data.games.take(slice(0, 30)),
            labels=data.games.labels[:30],
            threat=rules | {"objective": objective},
        )
        for objective in ("first", "submit")
    )
    assert submit.vote.mean() > first.vote.mean() + 0.1
    handed_in = np.array(submit.reason) == "submitted"
    assert handed_in.sum() >= 3 and (submit.vote[handed_in] > 0.5).all()


# What comes to rest begins again


@pytest.mark.parametrize(
    ("attack", "budget"),
    [
        (Boundary(samples=2, trials=2), 150),
        pytest.param(
            Boundary(rules="original", step_adaptation=1e3, candidates=2, spherical_every=1),
            900,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_walk_that_has_come_to_rest_begins_again(referee, attack, budget):
    def model(x, game, turn):
        """Adversarial from .05 in the first pixel on; in the first game nothing is after 60 queries."""
        far = torch.where((game == 0) & (turn > 60), -1.0, x[:, 0, 0, 0] - 0.05)
        return torch.stack([torch.zeros_like(far), 1e6 * far], dim=1)

    y, x0, threat = torch.zeros(2, dtype=torch.int64), torch.zeros(2, 1, 4, 4), FAR.with_budget(budget)
    fact, doubt = (referee(model, x0, y, threat, facts=facts).play(attack) for facts in (True, False))
    assert len(fact.asked[0]) < budget
    assert [len(asked) for asked in doubt.asked] == [budget, budget]
    assert REPEAT in doubt.purposes(1)


def test_a_descent_that_has_converged_begins_again(referee, flat_boundary, procedure):
    """From its direction at the first step sizes, and at the distance that is asked for anew."""
    plane, y = flat_boundary((1, 2, 2), 2), torch.zeros(2, dtype=torch.int64)
    theta = (plane.w / plane.w.norm()).float().expand(2, -1, -1, -1)
    found = {}

    def steps(games):
        best = Directions(theta.clone(), 0.5 * plane.least["l2"])  # a lucky answer, half-way to the boundary
        descent = Descent.start(games, best, 0.2, 1e-3)
        descent.alpha[:], descent.beta[:] = 1e-5, 5e-8
        yield from descent.refine(games.open)
        return descent, games.open.tolist()

    for facts in (True, False):
        run = procedure(steps)
        referee(plane.answer, plane.images, y, FAR, facts=facts).play(run)
        found[facts] = run.result
    assert found[True][1] == []
    descent, still_open = found[False]
    assert still_open == [0, 1]
    assert descent.alpha.tolist() == [0.2, 0.2] and descent.beta.tolist() == [1e-3, 1e-3]
    assert torch.allclose(descent.best.g, plane.least["l2"], rtol=1e-2)


def test_geoda_goes_on_after_its_schedule(referee, flat_boundary):
    plane, y = flat_boundary((1, 12, 12), 2, low=6), torch.zeros(2, dtype=torch.int64)
    fact, doubt = (
        referee(plane.answer, plane.images, y, FAR.with_budget(200), facts=facts).play(GeoDA())
        for facts in (True, False)
    )
    assert all(len(asked) < 200 for asked in fact.asked)
    assert [len(asked) for asked in doubt.asked] == [200, 200]


def test_a_start_is_asked_again_before_a_game_is_given_up(referee):
    """The image granted is answered wrong from the third time on."""

    def model(x, game, turn):
        return torch.stack([torch.zeros(len(x)), (turn >= 3) * 2.0 - 1], dim=1)

    class Starts:
        def play(self, games):
            games.resources = Resources(starts=torch.ones_like(games.x0))
            yield from find_start(games, 0, fallback=True)
            self.open = games.open.tolist()

    found = {}
    for facts in (True, False):
        table = referee(model, torch.zeros(1, 1, 4, 4), torch.zeros(1).long(), FAR, facts=facts)
        attacker = Starts()
        table.play(attacker)
        found[facts] = (len(table.asked[0]), attacker.open)
    assert found == {True: (1, []), False: (3, [0])}


# White boxes


class Slope(torch.nn.Module):
    """Logits (0, 10 (w (x - 1/2) - b)): class 1 beyond a plane at .3 in l2 from images of grey 1/2."""

    def __init__(self):
        super().__init__()
        w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
        self.w = w / w.norm()

    def forward(self, x):
        f = 10 * (((x - 0.5) * self.w).flatten(1).sum(dim=1) - 0.3)
        return torch.stack([torch.zeros_like(f), f], dim=1)


def play_white_box(attacker, epsilon, objective="submit"):
    rules = {"norm": "l2", "epsilon": epsilon, "budget": 120, "feedback": "label", "knowledge": "weights"}
    return arena.play(
        attacker,
        {"name": "snd", "sigma": 0.05},
        classifier=Slope(),
        images=torch.full((4, *SHAPE), 0.5),
        labels=torch.zeros(4, dtype=torch.int64),
        threat=rules | {"objective": objective},
    )


def test_pgd_plays_all_runs_and_hands_in_what_passes():
    """.3 is the least distance; at .45 the noise, .05 along w, is wrong three deviations off."""
    won = play_white_box(PGD(steps=10, restarts=3), 0.45)
    assert set(won.reason) == {"submitted"} and (won.vote > 0.9).all()
    assert (won.games.insider_queries == 3 * 12).all() and np.median(won.queries) == 1 + 29
    lost = play_white_box(PGD(steps=10, restarts=3), 0.3)
    assert set(lost.reason) == {"resigned"} and (lost.queries > 3).all() and (lost.vote < 0.9).all()


def test_carlini_and_wagner_claim_an_image_that_wins_its_vote():
    attack = CarliniWagner(iterations=30, search_steps=2, initial_c=1.0, learning_rate=0.03)
    near = play_white_box(attack, "inf", "minimum")
    assert (near.vote > 0.5).all()
    assert (near.games.l2 < 2 * 0.3).all() and (near.games.l2 > 0.3).all()
