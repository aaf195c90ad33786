import math
from pathlib import Path

import pytest
import torch

import arena
from agents.attackers.decision.boundary import Boundary
from agents.attackers.decision.guessing_smart import GuessingSmart
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import DatasetSpec
from arena.datasets.loading import load_dataset
from arena.players.seat import Resources
from arena.rules.threat import Threat

SHAPE = (3, 6, 8)
FAR = Threat(norm="l2", epsilon=math.inf, budget=200, feedback="label", objective="minimum")


def draws(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def reference(x0, x, noise, sigma, epsilon):
    """The authors' candidate from one image, float64."""
    x0, x, noise = x0.double(), x.double(), noise.double()
    source, distance = x0 - x, (x0 - x).norm()
    mask = (source.abs() / source.abs().max()) ** 0.5
    unit = source / distance
    direction = (noise - (noise * unit).sum() * unit) * mask
    direction = sigma * distance * direction / direction.norm()
    z = (x0 + (direction - source) / (1 + sigma**2) ** 0.5).clamp(0, 1)
    inward = (x0 - z) / (x0 - z).norm()
    return (x0 - distance * inward + epsilon * distance * inward).clamp(0, 1)


def test_a_candidate_is_the_authors():
    x0, x, noise = draws(4, *SHAPE), draws(4, *SHAPE, seed=1), draws(4, *SHAPE, seed=2) - 0.5
    x[1] = (x0[1] + 0.01 * (x[1] - 0.5)).clamp(0, 1)
    x[2, :, :3] = x0[2, :, :3]  # half of the image has no difference and is not to change
    scale = torch.tensor([1.3, 0.8, 0.5, 0.32], dtype=torch.float64)
    attack = GuessingSmart()
    found = attack.propose(x0, x, (x - x0).double().flatten(1).norm(dim=1), noise, scale)
    for n, c in enumerate(scale.tolist()):
        expected = reference(x0[n], x[n], noise[n], 0.05 * c, 0.002 * c)
        assert torch.allclose(found[n].double(), expected, atol=1e-6)
    assert torch.equal(found[2, :, :3], x0[2, :, :3])


def test_with_little_or_no_difference_it_steps_straight_inwards():
    x0, noise = draws(2, *SHAPE) * 0.5 + 0.25, draws(2, *SHAPE, seed=2) - 0.5
    x = x0.clone()
    x[1, 0, 0, 0] += 0.2  # one pixel: no direction is left
    scale = torch.ones(2, dtype=torch.float64)
    found = GuessingSmart().propose(x0, x, (x - x0).double().flatten(1).norm(dim=1), noise, scale)
    assert torch.equal(found[0], x0[0])
    assert torch.allclose(found[1], x0[1] + 0.998 * (x[1] - x0[1]), atol=1e-6)


def shell(x, game, turn):
    """Class 1 from distance 1 of the middle on."""
    far = (x - 0.5).flatten(1).norm(dim=1) - 1
    return torch.stack([torch.zeros_like(far), 1e6 * far], dim=1)


def seated(referee, model, x0, images, labels, threat=FAR):
    table = referee(model, x0, torch.zeros(len(x0), dtype=torch.int64), threat)
    table.seat.resources = Resources(images=images, labels=labels)
    return table


def test_it_starts_from_the_nearest_image_and_the_boundary_before_it(referee):
    x0, images = torch.full((1, *SHAPE), 0.5), draws(5, *SHAPE, seed=3)
    labels = torch.tensor([0, 1, 1, 1, 0])
    table = seated(referee, shell, x0, images, labels).play(GuessingSmart())
    order = (images[1:4] - x0).flatten(1).norm(dim=1).argsort()
    assert torch.equal(table.queries(0)[0], images[1:4][order[0]])
    purposes = table.purposes(0)
    halvings = purposes.count("boundary-search")
    assert purposes == ["start"] + ["boundary-search"] * halvings + ["candidate"] * (199 - halvings)
    far = float((table.queries(0)[0] - x0[0]).norm())
    assert halvings == math.ceil(math.log2(far / 0.5))
    ends = [float((x - x0[0]).norm()) for x in table.queries(0)[: halvings + 1]]
    incumbent = min(d for d in ends if d > 1)
    assert incumbent - max([d for d in ends if d < 1], default=0.0) <= 0.5
    first = float((table.queries(0)[halvings + 1] - x0[0]).norm())
    assert first == pytest.approx(incumbent * (1 - 1.3 * 0.002), rel=1e-5)


def test_a_game_without_image_of_another_class_has_no_start(referee):
    x0 = torch.full((2, *SHAPE), 0.5)
    images, labels = draws(3, *SHAPE, seed=3), torch.zeros(3, dtype=torch.int64)
    table = seated(referee, shell, x0, images, labels).play(GuessingSmart())
    assert table.open.tolist() == [False, False] and table.asked == [[], []]


def test_steps_shrink_within_a_round_and_begin_anew_at_a_success_and_at_its_end(referee):
    x0 = torch.full((1, *SHAPE), 0.5)
    images, labels = draws(1, *SHAPE, seed=3), torch.ones(1, dtype=torch.int64)
    table = seated(referee, shell, x0, images, labels, FAR.with_budget(400)).play(GuessingSmart())
    walk = [
        (float((x - x0[0]).double().norm()), z) for x, purpose, z in table.asked[0] if purpose == "candidate"
    ]
    searched = [
        float((x - x0[0]).double().norm()) for x, p, z in table.asked[0] if p != "candidate" and z.argmax()
    ]
    distance, tried, count, successes, rounds = min(searched), 0, 50, 0, 0
    for n, (far, z) in enumerate(walk):
        if tried == 0:
            count = min(50, len(walk) - n)
        scale = 1.3 - tried / count
        assert far == pytest.approx(distance * (1 - 0.002 * scale), rel=2e-6)
        tried += 1
        if z.argmax() == 1:
            distance, tried, successes = far, 0, successes + 1
        elif tried == count:
            tried, rounds = 0, rounds + 1
    assert successes > 20 and rounds > 2


def smooth(plane):
    """The plane with a normal of one slow wave across the image, its images as far from it as they were."""
    gap = plane.least["l2"].min()
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in plane.w.shape[-2:])
    plane.w = (torch.sin(rows / 3).unsqueeze(1) * torch.cos(columns / 4)).expand_as(plane.w)
    f = plane.side(plane.images)
    plane.b = f.max() + gap * plane.w.norm()
    plane.least["l2"] = (plane.b - f) / plane.w.norm()
    return plane


def test_on_a_smooth_boundary_its_bias_pays(flat_boundary):
    plane = smooth(flat_boundary((1, 16, 16), games=12))
    biased = GuessingSmart(start="noise", source_step=0.01, frequency=3.0)
    ratios, _ = plane.ratios(biased, budget=400, at=[200])
    unbiased, _ = plane.ratios(Boundary(), budget=400)
    assert 1 <= ratios[1] < ratios[0]
    assert ratios[1] < 0.5 * unbiased[0]


@pytest.mark.slow
def test_success_on_digits_rises_with_queries():
    data = load_dataset(DatasetSpec(name="digits"), [Path()])
    classifier = load_classifier(ClassifierSpec(network="digits-cnn"), data, torch.device("cpu"))
    threat = {"norm": "l2", "epsilon": 1.2, "budget": 400, "feedback": "label", "objective": "minimum"}
    result = arena.play(
        GuessingSmart(),
        classifier=classifier,
        images=data.games.take(slice(0, 24)),
        labels=data.games.labels[:24],
        resources=(data.train.take(slice(0, 400)), data.train.labels[:400]),
        threat=threat | {"resources": {"images": 400}},
        at=[20],
    )
    left = [result.accuracy(at=q) for q in (20, 400)]
    assert left[1] < 0.5 and left[1] < left[0] - 0.3


@pytest.mark.parametrize(("side", "frequency"), [(28, 5.0), (64, 5.0), (299, 20.0)])
def test_the_frequency_follows_the_size_of_the_image(referee, side, frequency):
    x0 = torch.zeros(1, 1, side, side // 2)
    seat = referee(shell, x0, torch.zeros(1, dtype=torch.int64), FAR).seat
    assert side / GuessingSmart().cell(seat) == pytest.approx(frequency, abs=0.03)
    assert side / GuessingSmart(frequency=7.0).cell(seat) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"frequency": 0.0}, "frequency must be finite and above 0; found 0.0"),
        ({"source_step": 0.8}, "source_step must be below 0.77; found 0.8"),
        ({"init_draws": 0}, "init_draws must be at least 1; found 0"),
    ],
)
def test_a_wrong_parameter_is_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        GuessingSmart(**wrong)
