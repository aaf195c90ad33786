"""Utilities: closed forms, independent sums, streams, and defenders that draw, remember and refuse."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import binomtest
from torch import nn

import arena
from arena.classifiers import Classifier, ClassifierSpec, load_classifier
from arena.datasets import load_dataset
from arena.datasets.own_arrays import read_split
from arena.evaluation.clean_images import Evaluation, log_probabilities, read
from arena.evaluation.clean_utility import Utility
from arena.game.stack import Stack, prepare
from arena.players import Defender, Response
from arena.players.registry import build_stack

MEASURED = (
    "cost_1",
    "cost_1_low",
    "cost_1_high",
    "cost_batch",
    "cost_batch_low",
    "cost_batch_high",
    "seconds_1",
    "seconds_batch",
    "peak_bytes",
    "multiply_adds",
)
"""The fields that depend on the moment, not on the scenario alone."""


def told(utility: Utility) -> dict[str, object]:
    """What two evaluations must agree in, bit for bit."""
    return {f.name: getattr(utility, f.name) for f in fields(utility) if f.name not in MEASURED}


class Table(nn.Module):
    """Answers image i, whose first pixel is i/255, with row i of a table of logits."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", torch.as_tensor(logits, dtype=torch.float32))

    def forward(self, x):
        return self.logits[(x[:, 0, 0, 0] * 255).round().long()]


def world(logits, labels, batch=4):
    """A classifier that answers so, and its images."""
    logits = torch.as_tensor(logits, dtype=torch.float32)
    images = (torch.arange(len(logits)) / 255).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    split = read_split(images, torch.as_tensor(labels))
    classifier = Classifier(Table(logits), shape=(1, 2, 2), classes=logits.shape[1], batch=batch)
    return classifier, split


def test_a_calibrated_coin_in_closed_form():
    """p = 3/4 for class 0, right for 6 of 8 images: no calibration error; for 4 of 8: one of a quarter."""
    logits = [[math.log(3), 0.0]] * 8
    for right, gap in ((6, 0.0), (4, 0.25)):
        classifier, split = world(logits, [0] * right + [1] * (8 - right))
        found = Evaluation(classifier, split).of(Stack(classifier), cost=False)
        assert found.accuracy == right / 8
        assert found.ece == found.ece_mass == pytest.approx(gap, abs=1e-6)
        wanted = -(right * math.log(3 / 4) + (8 - right) * math.log(1 / 4)) / 8
        assert found.nll == pytest.approx(wanted, abs=1e-6)
        assert (found.agreement, found.declined, found.refused) == (1, 0, 0)


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(200, 5)).astype(np.float32) * 3
    labels = np.where(rng.random(200) < 0.6, logits.argmax(1), rng.integers(0, 5, 200))
    return logits, labels


def test_all_figures_against_independent_sums(noisy):
    logits, labels = noisy
    classifier, split = world(logits, labels, batch=7)
    found = Evaluation(classifier, split).of(Stack(classifier), cost=False)
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    confidence, right = np.exp(log_p.max(1)), logits.argmax(1) == labels
    gap = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            gap += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found.images == 200
    assert found.accuracy == right.mean()
    assert found.ece == pytest.approx(gap, abs=1e-12)
    assert found.nll == pytest.approx(-log_p[np.arange(200), labels].mean(), abs=1e-12)
    interval = binomtest(int(right.sum()), 200).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_a_stream_gives_what_the_whole_gives(noisy):
    wholes = []
    for batch in (1, 7, 64, 1000):
        classifier, split = world(*noisy, batch=batch)
        found = Evaluation(classifier, split).of(Stack(classifier), cost=False)
        wholes.append(told(found))
    assert wholes[1:] == wholes[:-1]


def test_no_more_than_a_batch_is_held_at_a_time(noisy):
    classifier, split = world(*noisy, batch=16)
    taken = []

    class Streamed:
        labels, index = split.labels, split.index

        def __len__(self):
            return len(split)

        def take(self, rows):
            taken.append(len(rows))
            return split.take(rows)

    Evaluation(classifier, Streamed()).of(Stack(classifier))
    assert max(taken) == 16


def test_fewer_images_are_the_first_of_the_drawing_order(noisy):
    classifier, split = world(*noisy)
    whole, few = Evaluation(classifier, split, seed=5), Evaluation(classifier, split, seed=5, images=20)
    assert few.places.tolist() == whole.places[:20].tolist()
    assert few.of(Stack(classifier), cost=False).images == 20
    counts = np.bincount(split.labels[few.places], minlength=5)
    assert counts.tolist() == [4] * 5
    assert Evaluation(classifier, split, seed=6, images=20).places.tolist() != few.places.tolist()


class Says(Defender):
    """Answers rows with what a table has for them, whatever the classifier says."""

    def __init__(self, logits, **flags):
        self.logits, self.flags = torch.as_tensor(logits, dtype=torch.float32), flags

    def respond(self, x, rows, inner):
        place = (x[:, 0, 0, 0] * 255).round().long()
        flags = {name: torch.as_tensor(flag)[place] for name, flag in self.flags.items()}
        return Response(self.logits[place], **flags)


def test_agreement_is_with_the_classifier_before_it_was_hardened():
    undefended, split = world([[1.0, 0.0]] * 6, [0] * 6)
    hardened, _ = world([[0.0, 1.0]] * 2 + [[1.0, 0.0]] * 4, [0] * 6)
    found = Evaluation(undefended, split).of(Stack(hardened), cost=False)
    assert (found.agreement, found.accuracy) == (pytest.approx(4 / 6), pytest.approx(4 / 6))
    said = Says([[0.0, 1.0]] * 3 + [[1.0, 0.0]] * 3)
    found = Evaluation(undefended, split).of(Stack(hardened, (said,)), cost=False)
    assert found.agreement == 0.5


def test_flagged_images_are_counted_whatever_is_answered():
    classifier, split = world([[2.0, 0.0]] * 8, [0] * 8)
    said = Says(
        [[2.0, 0.0]] * 8, flagged=[True, True, False, True] + [False] * 4, refused=[True] + [False] * 7
    )
    found = Evaluation(classifier, split).of(Stack(classifier, (said,)), cost=False)
    assert (found.flagged, found.refused, found.accuracy) == (3 / 8, 1 / 8, 7 / 8)
    assert ", flagged 37.5%" in str(found)
    bare = Evaluation(classifier, split).of(Stack(classifier), cost=False)
    assert bare.flagged == 0 and "flagged" not in str(bare)


def test_what_is_not_answered_is_not_right_and_has_no_calibration():
    logits = [[2.0, 0.0]] * 8
    classifier, split = world(logits, [0] * 8)
    said = Says(
        [*logits[:7], [math.nan, 0.0]],
        refused=[True] + [False] * 7,
        banned=[False, True] + [False] * 6,
        declined=[True, False, True] + [False] * 5,
    )
    found = Evaluation(classifier, split).of(Stack(classifier, (said,)), cost=False)
    assert (found.accuracy, found.agreement) == (4 / 8, 4 / 8)
    assert (found.refused, found.declined) == (2 / 8, 2 / 8)
    p = 1 / (1 + math.exp(-2))
    assert found.ece == pytest.approx(1 - p)
    assert found.nll == pytest.approx(-math.log(p))
    silent = Says(logits, refused=[True] * 8)
    found = Evaluation(classifier, split).of(Stack(classifier, (silent,)), cost=False)
    assert (found.accuracy, found.refused) == (0, 1)
    assert math.isnan(found.ece) and math.isnan(found.ece_mass) and math.isnan(found.nll)


def test_a_label_without_probability_is_infinitely_unlikely():
    classifier, split = world([[0.0, -math.inf], [0.0, 0.0]], [1, 1])
    found = Evaluation(classifier, split).of(Stack(classifier), cost=False)
    assert found.nll == math.inf
    assert found.ece == pytest.approx(1)  # of the one image that has a label: all classes equal are none
    assert found.declined == 0.5


def test_infinite_logits_are_limits_of_large_ones():
    inf = math.inf
    p = log_probabilities(
        torch.tensor([[inf, 0, 0], [inf, 0, inf], [-inf, -inf, -inf], [-inf, 1, 1], [3, 2, -inf]])
    ).exp()
    e = math.exp(1)
    wanted = [[1, 0, 0], [0.5, 0, 0.5], [1 / 3] * 3, [0, 0.5, 0.5], [e / (1 + e), 1 / (1 + e), 0]]
    assert p.numpy() == pytest.approx(np.array(wanted))
    assert log_probabilities(torch.tensor([[math.nan, 0.0]])).isnan().all()


def test_labels_are_read_as_the_referee_reads_them():
    scores = torch.tensor([[1.0, 1.0], [math.nan, 1.0], [0.0, 1.0], [0.0, 1.0]])
    declined = torch.tensor([False, False, True, False])
    label, refused, *_ = read(Response(scores, declined=declined), torch.zeros(4, dtype=torch.int64))
    assert label.tolist() == [-1, -1, -1, 1]
    assert not refused.any()


@pytest.fixture(scope="module")
def digits():
    dataset = load_dataset("digits")
    return dataset, load_classifier(ClassifierSpec(network="digits-cnn"), dataset, batch=64)


@pytest.mark.parametrize("name", ["snd", "rnd", "aaa-sine"])
def test_a_defended_utility_repeats_bit_for_bit(digits, name):
    dataset, classifier = digits
    found = []
    for _ in range(2):
        stack = prepare(classifier, build_stack({"name": name}), dataset)
        found.append(told(Evaluation(classifier, dataset.games, images=150).of(stack, cost=False)))
    assert repr(found[0]) == repr(found[1])


def test_a_random_defenders_draws_depend_on_the_image_and_the_seed_alone(digits):
    dataset, classifier = digits
    drawn = []

    class Draws(Defender):
        random: ClassVar[bool] = True

        def transform(self, x, rows):
            drawn.append(dict(zip(rows.key.tolist(), rows.uniform(()).tolist(), strict=True)))
            return x

    for images, seed in ((40, 0), (30, 0), (40, 1)):
        evaluation = Evaluation(classifier, dataset.games, images=images, seed=seed)
        evaluation.of(Stack(classifier, (Draws(),)), cost=False)
    many, few, other = drawn
    assert len(many) == 40 and set(few) < set(many)
    assert all(many[image] == value for image, value in few.items())
    assert set(many) <= set(dataset.games.index.tolist())
    assert not set(other.values()) & set(many.values())


@pytest.mark.parametrize(("memory", "seen"), [("game", 0), ("account", 0), ("service", 11)])
def test_every_image_is_a_game_of_its_own_and_a_service_remembers_them_all(memory, seen):
    kind = memory

    class Remembers(Defender):
        memory = kind
        most: ClassVar[list[int]] = []

        def start(self, shape, accounts, device):
            return torch.zeros(shape[0], dtype=torch.int64)

        def watch(self, x, rows, response):
            before = rows.memory.sum() if kind == "service" else rows.memory[rows.game].max()
            self.most.append(int(before))
            return response

        def remember(self, x, rows, response):
            rows.memory[rows.game] += 1

    classifier, split = world([[1.0, 0.0]] * 12, [0] * 12, batch=1)
    defender = Remembers()
    Evaluation(classifier, split).of(Stack(classifier, (defender,)), cost=False)
    assert max(defender.most) == seen


def test_the_public_function(digits):
    dataset, classifier = digits
    place = Evaluation(classifier, dataset.games, images=100).places
    images, labels = dataset.games.take(place), dataset.games.labels[place]
    calibration = dataset.calibration.images, dataset.calibration.labels
    found = arena.evaluate(classifier, "aaa-linear", images=images, labels=labels, calibration=calibration)
    assert isinstance(found, arena.Utility)
    assert (found.images, found.agreement) == (100, 1)
    assert found.cost_1 > 0 and found.batch == 64
    bare = arena.evaluate(classifier, images=images, labels=labels, cost=False)
    assert bare.nll < found.nll
    assert bare.batch is None and math.isnan(bare.cost_batch)
    assert str(bare).startswith("100 images, accuracy ")
    assert "cost" in str(found) and "cost" not in str(bare)
    assert replace(bare, refused=0.5).__str__().endswith("declined 0.0%, refused 50.0%")


def test_mistakes_get_a_sentence(digits):
    dataset, classifier = digits
    images = dataset.games.take(slice(0, 3))
    with pytest.raises(ValueError, match="labels go up to 12; the classifier answers 10 classes"):
        arena.evaluate(classifier, images=images, labels=[1, 2, 12])
    with pytest.raises(ValueError, match=r"pass calibration=\(images, labels\)"):
        arena.evaluate(classifier, "aaa-sine", images=images, labels=[1, 2, 3])
    with pytest.raises(ValueError, match="batch must be a whole number"):
        arena.evaluate(classifier, images=images, labels=[1, 2, 3], batch=0)


class Moves(Defender):
    """Asks about the image moved by each of `by`, in every pixel, and answers what came last."""

    def __init__(self, *by):
        self.by = by

    def respond(self, x, rows, inner):
        return [inner(x + by, rows) for by in self.by][-1]


def test_what_the_classifier_is_asked_about_lies_so_far_from_the_clean_image(noisy):
    classifier, split = world(*noisy, batch=7)

    def of(*defenders):
        return Evaluation(classifier, split).of(Stack(classifier, defenders), cost=False).input_l2

    assert of() == 0
    assert of(Moves(-1e-4)) == pytest.approx(2e-4, rel=1e-2), "images of 4 pixels"
    assert of(Moves(0.0, 1e-4, 2e-4)) == pytest.approx(2e-4, rel=1e-2), "the mean over all that is asked"
    assert of(Moves(1e-4), Moves(-1e-4)) == pytest.approx(0, abs=1e-6), "the innermost asks the classifier"
    assert math.isnan(of(Says([[1.0, 0.0, 0.0, 0.0, 0.0]] * 256)))


def test_small_noise_moves_images_by_its_norm_and_clipped_noise_by_less(digits):
    """E||sigma v|| = sigma sqrt(2) Gamma((D+1)/2) / Gamma(D/2), D = 64; half of it is clipped off where a
    pixel is 0 or 1."""
    dataset, classifier = digits
    evaluation = Evaluation(classifier, dataset.games)
    found = [
        evaluation.of(prepare(classifier, build_stack({"name": "snd", **given}), dataset), cost=False)
        for given in ({"sigma": 0.05}, {"sigma": 0.05, "clamp": True})
    ]
    norm = 0.05 * math.sqrt(2) * math.exp(math.lgamma(32.5) - math.lgamma(32))
    assert found[0].input_l2 == pytest.approx(norm, rel=0.01)
    x = dataset.games.take(torch.arange(len(dataset.games)))
    inner = float(((x > 0.1) & (x < 0.9)).float().mean())
    half = norm * math.sqrt(inner + (1 - inner) / 2)
    assert found[1].input_l2 == pytest.approx(half, rel=0.05)


class Coin(Defender):
    """Answers class 0 with probability u, one other with 1 - u, u uniform for each query."""

    random: ClassVar[bool] = True

    def __init__(self, refuses=()):
        self.refuses = torch.tensor(refuses, dtype=torch.int64)

    def respond(self, x, rows, inner):
        u = rows.uniform(()).clamp(1e-6, 1 - 1e-6)
        scores = torch.stack([u.log(), (1 - u).log()], dim=1)
        return Response(scores, refused=torch.isin((x[:, 0, 0, 0] * 255).round().long(), self.refuses))


def test_the_loss_spreads_as_its_distribution_does():
    """p_y - p_other = 2u - 1, whose standard deviation is 1 / sqrt(3)."""
    classifier, split = world([[1.0, 0.0]] * 60, [0, 1] * 30)
    evaluation = Evaluation(classifier, split)
    found = evaluation.loss_spread(Stack(classifier, (Coin(),)), 100)
    assert found == pytest.approx(1 / math.sqrt(3), rel=0.02)
    assert evaluation.loss_spread(Stack(classifier, (Coin(),)), 100) == found
    refusing = evaluation.loss_spread(Stack(classifier, (Coin(range(59)),)), 100)
    assert refusing == pytest.approx(1 / math.sqrt(3), rel=0.3), "of the one image that is answered"
    assert math.isnan(evaluation.loss_spread(Stack(classifier, (Coin(range(60)),)), 3))
    assert evaluation.loss_spread(Stack(classifier, (Moves(1e-4),)), 3) == 0
    with pytest.raises(ValueError, match="at least two answers; found 60, 1"):
        evaluation.loss_spread(Stack(classifier, (Coin(),)), 1)


def test_two_answers_of_one_image_have_draws_of_their_own():
    classifier, split = world([[1.0, 0.0]] * 20, [0] * 20)
    spread = Evaluation(classifier, split).loss_spread(Stack(classifier, (Coin(),)), 2)
    assert spread > 0.1


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_undefended_one_moves_nothing_and_a_flat_defense_all(batch: int) -> None:
    logits = torch.randn(150, 4, generator=torch.Generator().manual_seed(1)) * 2
    classifier, split = world(logits, torch.arange(150) % 4, batch)
    evaluation = Evaluation(classifier, split)
    bare = evaluation.of(Stack(classifier), cost=False)
    assert bare.reliability is not None and len(bare.reliability.accuracy) == 100
    assert bare.reliability.defended == bare.reliability.undefended and bare.reliability.moved == 0
    p = np.sort(logits.double().softmax(1)[torch.arange(150), torch.arange(150) % 4].numpy())
    assert bare.reliability.undefended[-1] == pytest.approx(p[-1], abs=1e-6)
    assert bare.reliability.undefended[0] == pytest.approx(p[:2].mean(), abs=1e-6)
    weights = np.array([2] * 50 + [1] * 50)
    assert np.average(bare.reliability.accuracy, weights=weights) == pytest.approx(bare.accuracy, abs=1e-6)
    level = [[1e-6, 0.0, 0.0, 0.0]] * 150  # four equal scores would be no answer
    flat = evaluation.of(Stack(classifier, (Says(level),)), cost=False).reliability
    assert flat is not None and flat.undefended == bare.reliability.undefended
    assert flat.defended == (0.25,) * 100
    assert flat.moved == pytest.approx(np.abs(np.array(flat.undefended) - 0.25).mean())


def test_images_are_those_of_the_drawing_order_in_all_worlds() -> None:
    """A split with labels in blocks is drawn out of order: labels go with their images."""
    classifier, _ = world([[4.0, 0.0], [0.0, 4.0]] * 6, [0, 1] * 6, 5)
    x = (torch.arange(12) / 255).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    order = torch.tensor([0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11])
    split = read_split(x[order], torch.tensor([0] * 6 + [1] * 6))
    found = Evaluation(classifier, split, seed=3).of(Stack(classifier), cost=False).reliability
    assert found is not None and set(found.accuracy) == {1.0}
    assert set(found.undefended) == {round(1 / (1 + math.exp(-4)), 6)}
