import numpy as np
import pytest
import torch

import arena
from agents.attackers.white_box.pgd import PGD
from arena.rules.threat import Threat

RULES = {"epsilon": 0.1, "budget": 1, "feedback": "label", "objective": "submit", "knowledge": "weights"}


def play(attack, linear, **rules):
    targets = torch.ones_like(linear.labels) if rules.get("goal") == "targeted" else None
    data = {"images": linear.images, "labels": linear.labels, "targets": targets}
    return arena.play(attack, classifier=linear, threat=RULES | rules, **data)


@pytest.mark.parametrize("loss", ["margin", "cross-entropy"])
@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_a_linear_classifier_it_wins_from_the_least_distance_on(world, norm, goal, loss):
    linear = world(classes=2)
    least = linear.least(norm)
    for epsilon in (0.99 * least.min(), 1.02 * least.min(), 1.02 * least.max()):
        run = play(PGD(loss=loss, restarts=2), linear, norm=norm, epsilon=float(epsilon), goal=goal)
        assert run.base.tolist() == run.answered.tolist() == (least < epsilon).tolist()
        assert (run.queries == 1).all()
        far = run.games.l2 if norm == "l2" else run.games.linf
        assert (far[run.base] <= epsilon + 1e-6).all()


def test_the_margin_falls_to_that_of_the_worst_point_of_the_ball(world):
    """linf, two classes: f(x0) - epsilon |w|_1."""
    linear = world(classes=2)
    epsilon = 0.5 * float(linear.least("linf").min())
    run = play(PGD(restarts=1, loss="margin"), linear, norm="linf", epsilon=epsilon)
    clean, final = (z[:, 0] - z[:, 1] for z in (linear(linear.images), linear(torch.from_numpy(run.images))))
    fall = epsilon * (linear.w[0] - linear.w[1]).abs().sum()
    assert torch.allclose(clean - final, fall.expand(8), rtol=1e-4)


def test_a_game_is_done_with_its_first_run_that_wins_and_all_is_metered(world):
    linear = world()
    epsilon = float(np.median(linear.least("linf")))
    run = play(PGD(steps=10, restarts=4, loss="margin"), linear, epsilon=epsilon)
    won, consults = run.base, run.games.insider_queries
    assert 0 < won.sum() < 8
    assert (consults[~won] == 4 * 12).all()
    assert (consults[won] % 12 == 0).all() and (consults[won] == 12).any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_runs_begin_uniformly_in_the_ball(referee, linear, images, norm):
    shape = (1, 3, 3)
    threat = Threat(norm=norm, epsilon=0.25, budget=1, feedback="label", knowledge="weights")
    label = torch.zeros(4000, dtype=torch.int64)
    seat = referee(linear(shape), images(4000, shape), label, threat).seat
    start = PGD().start(seat, torch.arange(4000)).flatten(1)
    order = 2 if norm == "l2" else torch.inf
    radius = torch.linalg.vector_norm(start, ord=order, dim=1) / 0.25
    assert radius.max() <= 1 + 1e-5
    assert float((radius**9).mean()) == pytest.approx(0.5, abs=0.02)  # uniform on [0,1]
    assert start.mean(dim=0).abs().max() < 0.01


@pytest.mark.parametrize("quantisation", ["round", "floor"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_the_service_rounds_what_it_found_survives(world, norm, quantisation):
    linear = world()
    linear.images = (linear.images * 255).round() / 255
    epsilon = float(1.2 * np.median(linear.least(norm)))
    run = play(PGD(), linear, norm=norm, epsilon=epsilon, quantisation=quantisation)
    won = run.base
    assert won.sum() > 3 and (run.answered == won).all()
    assert ((run.games.l2 if norm == "l2" else run.games.linf)[won] <= epsilon + 1e-6).all()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1; found 0"),
        ({"restarts": 0}, "restarts must be at least 1; found 0"),
        ({"step_size": 0.0}, "step_size must be above 0; found 0.0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        PGD(**option)
