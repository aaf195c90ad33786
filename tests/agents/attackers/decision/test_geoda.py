"""GeoDA: the authors' schedule, the sums of its estimates, its rays, and what a plane is known to allow."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import arena
from agents.attackers.decision.geoda import RESERVED, GeoDA, schedule
from agents.attackers.parts.dct import to_frequencies
from arena.rules.threat import Threat

SCHEDULES = {  # what the authors' code comes to
    1000: [77, 108, 152, 213, 300],
    4000: [75, 105, 148, 208, 293, 411, 578, 813, 1143],
}


@pytest.mark.parametrize(("budget", "probes"), SCHEDULES.items())
def test_the_schedule_is_the_authors(budget, probes):
    assert schedule(budget, 0.6) == probes


@pytest.mark.parametrize(
    ("budget", "iterations", "first"), [(5000, 10, 66), (10000, 12, 67), (20000, 14, 68), (50000, 17, 62)]
)
def test_long_schedules_begin_and_end_as_the_authors(budget, iterations, first):
    probes = schedule(budget, 0.6)
    assert (len(probes), probes[0]) == (iterations, first)


@settings(max_examples=50)
@given(st.integers(1, 50_000), st.floats(0.3, 0.9))
def test_a_schedule_fits_its_budget_and_grows_by_its_factor(budget, mu):
    probes = schedule(budget, mu)
    assert sum(probes) <= budget + len(probes) / 2
    assert len(probes) == 1 or probes[0] >= 50
    for before, after in pairwise(probes):
        assert after == pytest.approx(before * mu ** (-2 / 3), abs=0.51 * (1 + mu ** (-2 / 3)))


@pytest.mark.parametrize(("norm", "short", "long"), [("l2", 1.17, 1.05), ("linf", 1.17, 1.05)])
def test_on_a_plane_of_low_frequency_the_distance_falls_to_the_least(flat_boundary, norm, short, long):
    """25 frequencies: 850 probes bring E cos = (1 + 24 pi / (2 * 850))^(-1/2), 1.02 times the least."""
    boundary = flat_boundary((1, 16, 16), 10, low=5)
    (at_300,), _ = boundary.ratios(GeoDA(sub_dim=5), norm, 300)
    (at_1000,), result = boundary.ratios(GeoDA(sub_dim=5), norm, 1000)
    assert 1 - 1e-6 <= at_1000 < min(long, at_300)
    assert at_300 < short
    assert result.base.all()


def test_what_lies_beyond_the_low_frequencies_is_out_of_reach(flat_boundary):
    """No perturbation in the subspace is shorter than |f| / |P w|."""
    boundary = flat_boundary((1, 16, 16), 10)
    share = float(to_frequencies(boundary.w.float(), 5, 5).norm() / boundary.w.norm())
    (ratio,), _ = boundary.ratios(GeoDA(sub_dim=5), "l2", 500)
    assert ratio > 0.99 / share
    (whole,), _ = boundary.ratios(GeoDA(sub_dim=16), "l2", 500)
    assert whole < 0.8 * ratio


def test_rays_go_along_the_sum_of_the_mean_probes_and_begin_at_half_the_distance(
    referee, flat_boundary, procedure
):
    boundary, attacker = flat_boundary((2, 12, 12), 2, low=4), GeoDA(sub_dim=4)
    threat = Threat(norm="l2", epsilon=math.inf, budget=700, feedback="label", objective="minimum")
    table = referee(boundary.answer, boundary.images, torch.zeros(2).long(), threat).play(attacker)
    for game in range(2):
        x0, total = boundary.images[game].double(), torch.zeros(2, 12, 12, dtype=torch.float64)
        points, iterations = [], iter(schedule(700, attacker.mu))
        asked = table.asked[game]
        n = next(k for k, (_, purpose, _) in enumerate(asked) if purpose == "gradient")
        while n < len(asked) and (q := next(iterations, 0)):
            probes = [(x.double(), z) for x, purpose, z in asked[n : n + q] if purpose == "gradient"]
            if len(probes) < q:  # the last: as many as leave room for its ray
                assert q - len(probes) <= 2 * RESERVED + 8
            n += len(probes)
            phi = torch.tensor([1.0 if z[1] > z[0] else -1.0 for _, z in probes]).double()
            images = torch.stack([x for x, _ in probes])
            here = [x for x, purpose, z in asked[: n - len(probes)] if purpose != "gradient" and z[1] > z[0]]
            points.append(min((float((x - x0).norm()), k) for k, x in enumerate(here)))
            total += ((images - images.mean(dim=0)) * phi.view(-1, 1, 1, 1)).mean(dim=0) / attacker.sigma
            x, purpose, _ = asked[n]
            assert purpose == "step"
            ray = x.double() - x0
            assert float((ray * total).sum() / ray.norm() / total.norm()) > 0.995
            x_b = here[-1].double()  # the end of a search lies within the tolerance of its last hit
            assert float(ray.norm()) == pytest.approx(float((x_b - x0).norm()) / 2, rel=1e-2)
            n = next((k for k in range(n, len(asked)) if asked[k][1] == "gradient"), len(asked))
        assert len(points) > 2 and points[-1] < points[0]


def test_probes_are_low_frequency_noise_of_sigma(referee, flat_boundary):
    boundary = flat_boundary((3, 12, 12), 1)
    threat = Threat(norm="l2", epsilon=math.inf, budget=4000, feedback="label", objective="minimum")
    table = referee(boundary.answer, boundary.images, torch.zeros(1).long(), threat)
    table.play(GeoDA(sub_dim=4, sigma=0.01))
    purposes = table.purposes(0)
    first = purposes.index("gradient")
    probes = table.queries(0)[first : first + 75]
    assert purposes[first : first + 76] == ["gradient"] * 75 + ["step"]
    z = to_frequencies(probes - probes.mean(dim=0), 12, 12)
    inside = z[..., :4, :4].clone()
    z[..., :4, :4] = 0
    assert float(z.abs().max()) < 1e-5
    assert float(inside.std()) == pytest.approx(0.01, rel=0.05)


def test_where_a_ray_meets_nothing_the_point_stays(referee, images):
    """Adversarial up to turn 30, then never again: every later estimate is around one and the same point."""
    shape, label = (1, 10, 10), torch.zeros(1).long()
    x0 = images(1, shape, low=0.4, high=0.6)
    threat = Threat(norm="l2", epsilon=math.inf, budget=600, feedback="label", objective="minimum")

    def model(x, game, turn):
        wrong = ((x - x0[game]).flatten(1).norm(dim=1) > 0.5) & (turn <= 30)
        return torch.stack([torch.zeros(len(x)), wrong * 2.0 - 1], dim=1)

    table = referee(model, x0, label, threat).play(GeoDA())
    queries, purposes = table.queries(0), table.purposes(0)
    assert [b - a for a, b in _runs(purposes, "step")][:-1] == [12] * (len(_runs(purposes, "gradient")) - 1)
    bursts = [queries[a:b] for a, b in _runs(purposes, "gradient")]
    assert len(bursts) > 1
    centre = bursts[0].mean(dim=0)
    for burst in bursts[1:]:
        assert float((burst.mean(dim=0) - centre).norm()) < 1e-3


def _runs(purposes, word):
    """Where runs of a word begin and end."""
    inside = [False, *(purpose == word for purpose in purposes), False]
    edges = [n for n in range(len(inside) - 1) if inside[n] != inside[n + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_it_starts_from_ever_stronger_noise(referee, images):
    shape = (1, 20, 20)
    x0 = images(1, shape, low=0.5, high=0.5)
    threat = Threat(norm="linf", epsilon=math.inf, budget=200, feedback="label", objective="minimum")

    def model(x, game, turn):
        return torch.stack([torch.zeros(len(x)), (turn == 7) * 2.0 - 1], dim=1)

    table = referee(model, x0, torch.zeros(1).long(), threat).play(GeoDA())
    assert table.purposes(0)[:8] == ["start"] * 7 + ["boundary-search"]
    spread = (table.queries(0)[:7] - 0.5).flatten(1).std(dim=1)
    np.testing.assert_allclose(spread, 0.02 * np.arange(1, 8), rtol=0.1)


def test_the_last_estimate_leaves_room_for_a_ray(flat_boundary):
    boundary = flat_boundary((1, 16, 16), 4)
    for budget in (60, 100, 200, 300):
        _, result = boundary.ratios(GeoDA(), "l2", budget, keep_rows=True)
        assert all(reason == "resigned" for reason in result.reason)
        assert (result.queries <= budget).all()


def test_under_submit_the_first_point_inside_the_ball_is_handed_in(flat_boundary):
    boundary = flat_boundary((1, 12, 12), 6, low=6)
    least = float(boundary.least["l2"].max())
    result = arena.play(
        GeoDA(),
        classifier=boundary,
        images=boundary.images,
        labels=torch.zeros(6, dtype=torch.int64),
        threat=Threat(norm="l2", epsilon=1.5 * least, budget=800, feedback="label", objective="submit"),
    )
    assert result.reason == ["submitted"] * 6
    assert result.base.all() and (result.queries < 600).all()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"sub_dim": -1}, r"sub_dim must be 0 \(by the size of the images\) or above; found -1"),
        ({"sigma": 0.0}, "sigma must be finite and above 0; found 0.0"),
        ({"tolerance": math.inf}, "tolerance must be finite and above 0; found inf"),
        ({"mu": 1.0}, "mu must be above 0 and below 1; found 1.0"),
        ({"start_draws": 0}, "start_draws must be at least 1; found 0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        GeoDA(**option)


def test_it_is_another_attack_for_each_budget_and_untargeted_only():
    assert not GeoDA().needs.prefix
    threat = Threat(norm="l2", epsilon=1, budget=9, feedback="label", goal="targeted")
    assert GeoDA().needs.unmet(threat) == 'it plays goal "untargeted"; the threat\'s goal is "targeted"'
