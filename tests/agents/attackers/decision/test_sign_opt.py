import math

import numpy as np
import pytest
import torch

import arena
from agents.attackers.decision.sign_opt import SignOpt
from agents.attackers.parts.directions import Descent, Directions, normed
from arena.rules.threat import Threat

SHAPE = (1, 12, 12)


@pytest.mark.parametrize(
    ("norm", "bounds"),
    [
        ("l2", (1.6, 1.15)),
        ("linf", (5.0, 4.0)),
    ],
)
def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary, norm, bounds):
    """d = 144; the fact sheet's run with d = 784 came to 2.57 and 1.13 times the least at 1k and 5k."""
    boundary = flat_boundary(SHAPE, 5)
    found, result = boundary.ratios(SignOpt(init_draws=20), norm, 1800, (900,))
    assert all(1 - 1e-6 <= ratio < bound for ratio, bound in zip(found, bounds, strict=True)), found
    assert result.base.all() and (result.vote == 1).all()


@pytest.mark.slow
def test_a_game_that_has_converged_is_resigned(flat_boundary):
    boundary = flat_boundary((1, 2, 2), 2)
    found, result = boundary.ratios(SignOpt(probes=10, init_draws=10, beta=1e-7), budget=6000)
    assert set(result.reason) == {"resigned"}
    assert found[0] < 1.5


@pytest.mark.parametrize("probes", [50, 200])
def test_the_estimate_is_as_near_to_the_gradient_as_signs_can_tell(referee, flat_boundary, procedure, probes):
    """E cos = (1 + (d - 1) / (n alpha^2))^(-1/2), alpha^2 = 2 / pi, at an exactly located plane."""
    games_count, d = 24, 144
    boundary = flat_boundary(SHAPE, games_count)
    w = boundary.w / boundary.w.norm()
    noise = torch.randn(games_count, *SHAPE, generator=torch.Generator().manual_seed(2)).double()
    theta = normed((noise / math.sqrt(d) + 0.7 * w).float(), "l2")[0]
    slope = (w * theta.double()).flatten(1).sum(dim=1)
    g = boundary.least["l2"] / slope

    def steps(games):
        descent = Descent.start(games, Directions(theta.clone(), g), 0.2, 1e-3)
        return (yield from SignOpt(probes=probes).gradient(descent, games.open))

    run = procedure(steps)
    threat = Threat(norm="l2", epsilon=math.inf, budget=1000, objective="minimum", feedback="label")
    table = referee(boundary.answer, boundary.images, torch.zeros(games_count).long(), threat).play(run)
    assert all(table.purposes(game) == ["gradient"] * probes for game in range(games_count))
    # The gradient of margin / <w, theta> over unit theta.
    truth = -(w - slope.view(-1, 1, 1, 1) * theta.double())
    cosine = torch.cosine_similarity(run.result.double().flatten(1), truth.flatten(1))
    expected = (1 + (d - 1) / (probes * 2 / math.pi)) ** -0.5
    assert float(cosine.mean()) == pytest.approx(expected, abs=0.03)


def test_directions_have_unit_length_in_the_threats_norm_and_are_averaged(referee, flat_boundary, procedure):
    """Where all probes are adversarial the estimate is minus the mean direction."""
    boundary = flat_boundary(SHAPE, 2)
    for norm in ("l2", "linf"):
        threat = Threat(norm=norm, epsilon=math.inf, budget=99, objective="minimum", feedback="label")

        def steps(games):
            descent = Descent.start(games, Directions(games.x0.clone(), games.x0.new_ones(2)), 0.2, 1e-3)
            return (yield from SignOpt(probes=16).gradient(descent, games.open))

        def wrong(x, game, turn):
            return torch.tensor([[0.0, 1.0]]).expand(len(x), 2)

        run = procedure(steps)
        table = referee(wrong, boundary.images, torch.zeros(2).long(), threat)
        other = referee(wrong, boundary.images, torch.zeros(2).long(), threat).seat
        table.play(run)
        u = torch.cat([SignOpt().directions(other, 8, torch.arange(2)) for _ in range(2)], dim=1)
        order = 2 if norm == "l2" else torch.inf
        assert torch.allclose(torch.linalg.vector_norm(u.flatten(2), ord=order, dim=2), torch.ones(2, 16))
        assert torch.allclose(run.result, -u.mean(dim=1), atol=1e-6)


def _digits(attacker, threat, games=30, **more):
    from pathlib import Path

    from arena.classifiers import ClassifierSpec, load_classifier
    from arena.datasets import DatasetSpec, load_dataset

    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    classifier = load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))
    x, y = data.games.take(slice(0, games)), data.games.labels[:games]
    if more.pop("own", False):
        more["resources"] = data.train.take(slice(0, 300)), data.train.labels[:300]
    return arena.play(attacker, classifier=classifier, images=x, labels=y, threat=threat, **more)


@pytest.mark.slow
def test_it_beats_the_radius_of_the_ball_on_digits_and_more_with_more_queries():
    threat = {"norm": "l2", "epsilon": 1.0, "budget": 700, "feedback": "label", "objective": "minimum"}
    run = _digits(SignOpt(probes=60, init_draws=20), threat, games=20, at=(150,))
    assert run.accuracy(at=150) > run.accuracy(at=700) + 0.3
    assert run.accuracy("base", at=700) == run.accuracy("answered", at=700)


@pytest.mark.slow
def test_targeted_it_starts_from_images_granted_and_ends_nearer():
    threat = {
        "norm": "l2",
        "epsilon": "inf",
        "budget": 500,
        "feedback": "label",
        "objective": "minimum",
        "goal": "targeted",
        "resources": {"starts": True, "images": 200},
    }
    run = _digits(SignOpt(probes=60, init_draws=10), threat, games=10, at=(60,), own=True)
    played = run.played
    assert run.answered[played].all()
    assert np.median(run.marks[500].l2[played]) < 0.8 * np.median(run.marks[60].l2[played])


def test_under_submit_the_first_point_inside_the_ball_is_handed_in():
    threat = {"norm": "l2", "epsilon": 1.2, "budget": 900, "feedback": "label", "objective": "submit"}
    run = _digits(SignOpt(probes=60, init_draws=20), threat, games=15)
    won = np.array([reason == "submitted" for reason in run.reason])
    assert won.sum() > 7
    assert run.base[won].all() and (run.games.l2[won] <= 1.2 + 1e-6).all()
    assert (run.queries[won] < 900).all()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"alpha": 0.0}, "alpha must be finite and above 0; found 0.0"),
        ({"beta": math.inf}, "beta must be finite and above 0; found inf"),
        ({"probes": 0}, "probes must be at least 1; found 0"),
        ({"init_draws": 0}, "init_draws must be at least 1; found 0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        SignOpt(**option)
