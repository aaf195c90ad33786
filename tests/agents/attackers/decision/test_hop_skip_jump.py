import math

import numpy as np
import pytest
import torch

import arena
from agents.attackers.decision.hop_skip_jump import HopSkipJump
from agents.attackers.decision.pop_skip_jump import PopSkipJump
from agents.attackers.parts.claims import stand_by
from arena.players.seat import Resources
from arena.rules.threat import Threat

THREAT = Threat(norm="l2", epsilon=math.inf, budget=1000, objective="minimum", feedback="label")


@pytest.mark.parametrize(
    ("norm", "options", "bounds"),
    [
        ("l2", {}, (1.9, 1.3)),
        pytest.param("l2", {"delta_rule": "art"}, (1.9, 1.3), marks=pytest.mark.slow),
        pytest.param("l2", {"step_search": "grid"}, (6.0, 2.1), marks=pytest.mark.slow),
        ("linf", {}, (2.2, 1.7)),
        pytest.param("linf", {"delta_rule": "art"}, (2.2, 1.7), marks=pytest.mark.slow),
    ],
)
def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary, norm, options, bounds):
    """d = 144; the fact sheet's run with d = 784 came to 1.66 and 1.15 times the least at 1k and 5k."""
    plane = flat_boundary((1, 12, 12), 12)
    found, result = plane.ratios(HopSkipJump(**options), norm, 2000, (500,))
    assert all(1 - 1e-6 <= ratio < bound for ratio, bound in zip(found, bounds, strict=True)), found
    assert result.base.all() and (result.vote == 1).all()


def test_probes_lie_on_the_sphere_that_the_rule_says_and_as_many_as_b_t(referee, linear, images):
    shape = (1, 8, 8)
    model, x0 = linear(shape), images(2, shape, low=0.4, high=0.6)
    label = model(x0, torch.arange(2), torch.arange(2)).argmax(dim=1)
    for rule, factor in (("current", 1 / 64), ("art", 0.01)):
        table = referee(model, x0, label, THREAT)
        table.play(HopSkipJump(delta_rule=rule))
        for game in range(2):
            counts, spread = _bursts(table, game)
            assert counts[:4] == [100, 141, 173, 200]
            assert spread[0] == pytest.approx(0.1, rel=0.05)
            # Later the radius follows D before the last search, around the point that this search found.
            far = [float((x - x0[game]).norm()) for x in _points(table, game)]
            for radius, d in zip(spread[1:4], far[1:4], strict=True):
                assert radius == pytest.approx(factor * d, rel=0.2)


def _bursts(table, game):
    """How many probes in a row, and their mean distance from their mean."""
    counts, spread, burst = [], [], []
    for x, purpose, _ in [*table.asked[game], (None, "end", None)]:
        if purpose == "gradient":
            burst.append(x)
        elif burst:
            probes = torch.stack(burst).double()
            counts.append(len(burst))
            spread.append(float((probes - probes.mean(dim=0)).flatten(1).norm(dim=1).mean()))
            burst = []
    return counts, spread


def _points(table, game):
    """The last step before each run of probes: where D was measured."""
    found, last = [], None
    for n, (x, purpose, _) in enumerate(table.asked[game]):
        if purpose == "gradient" and table.asked[game][n - 1][1] != "gradient":
            found.append(last)
        elif purpose != "gradient" and purpose != "boundary-search":
            last = x
    return found


@pytest.mark.slow
def test_it_beats_the_radius_of_the_ball_on_digits_and_more_with_more_queries():
    threat = {"norm": "l2", "epsilon": 1.0, "budget": 800, "feedback": "label", "objective": "minimum"}
    run = _digits("hop-skip-jump", threat)
    assert run.accuracy(at=100) > run.accuracy(at=800) + 0.2
    assert run.accuracy("base", at=800) == run.accuracy("answered", at=800)


def _digits(attacker, threat, **more):
    from pathlib import Path

    from arena.classifiers import ClassifierSpec, load_classifier
    from arena.datasets import DatasetSpec, load_dataset

    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    classifier = load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))
    x, y = data.games.take(slice(0, 40)), data.games.labels[:40]
    return arena.play(attacker, classifier=classifier, images=x, labels=y, threat=threat, at=(100,), **more)


def test_noise_does_not_stop_it_and_what_it_stands_by_is_what_is_judged():
    """Under noise the nearest answered hit is luck; claims keep the walk's own points."""
    threat = {"norm": "l2", "epsilon": "inf", "budget": 600, "feedback": "label", "objective": "minimum"}
    run = _digits(HopSkipJump(delta_rule="art"), threat, defender={"name": "snd", "sigma": 0.02})
    played = run.played
    assert set(np.array(run.reason)[played]) == {"budget"}
    assert run.vote[played].mean() > 0.3
    assert run.base[played].mean() > 0.3


def test_under_submit_the_first_point_inside_the_ball_is_handed_in():
    threat = {"norm": "l2", "epsilon": 1.2, "budget": 800, "feedback": "label", "objective": "submit"}
    run = _digits("hop-skip-jump", threat)
    won = np.array([reason == "submitted" for reason in run.reason])
    assert won.sum() > 20
    assert run.base[won].all() and (run.games.l2[won] <= 1.2 + 1e-6).all()
    assert (run.queries[won] < 800).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(
    "attacker", [HopSkipJump(initial_probes=8), PopSkipJump(initial_probes=8, repeats=0)]
)
def test_a_service_that_is_always_wrong_leads_to_the_clean_image_and_no_further(
    referee, images, attacker, norm
):
    def wrong(x, game, turn):
        return torch.tensor([0.0, 1.0]).repeat(len(x), 1)

    threat = THREAT.model_copy(update={"norm": norm, "budget": 600})
    x0 = images(2, (1, 4, 4))
    table = referee(wrong, x0, torch.zeros(2, dtype=torch.int64), threat).play(attacker)
    assert [len(asked) for asked in table.asked] == [600, 600]
    assert torch.equal(table.queries(0)[-1], x0[0]) and torch.equal(table.queries(1)[-1], x0[1])


def test_targeted_the_image_granted_is_searched_once(referee, linear, images):
    model, x0 = linear((1, 8, 8)), images(3, (1, 8, 8))
    label = model(x0, label := torch.zeros(3), label).argmax(dim=1)
    start = images(40, (1, 8, 8), seed=2)
    start = start[model(start, label, label).argmax(dim=1) == 1 - label[0]][:1]
    i = (label == label[0]).nonzero().squeeze(1)
    table = referee(
        model, x0[i], label[i], THREAT.model_copy(update={"goal": "targeted"}), target=1 - label[i]
    )
    table.seat.resources = Resources(starts=start.expand(len(i), -1, -1, -1))
    table.play(HopSkipJump())
    purposes = table.purposes(0)
    # One query of the image, then as many as halve a bracket to d^(-3/2), then probes.
    assert purposes[:11] == ["start", *["boundary-search"] * 9, "gradient"]
    assert torch.equal(table.queries(0)[0], start[0])


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"gamma": 0.0}, "gamma must be finite and above 0; found 0.0"),
        ({"initial_probes": 0}, "initial_probes must be at least 1; found 0"),
        ({"init_draws": 0}, "init_draws must be at least 1; found 0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        HopSkipJump(**option)


class Stands:
    """Stands by x0 + 1/10 in all pixels, in game 0 alone."""

    def play(self, games):
        i = games.open[:1]
        yield from stand_by(games, games.x0[i] + 0.1, i)


@pytest.mark.parametrize(("epsilon", "handed_in"), [(0.3, []), (0.5, [0])])
def test_only_what_lies_inside_the_ball_is_handed_in(referee, linear, images, epsilon, handed_in):
    threat = Threat(norm="l2", epsilon=epsilon, budget=9, objective="submit", feedback="label")
    x0 = images(2, (1, 4, 4), high=0.8)
    table = referee(linear((1, 4, 4)), x0, torch.zeros(2).long(), threat).play(Stands())
    assert list(table.submitted) == handed_in
