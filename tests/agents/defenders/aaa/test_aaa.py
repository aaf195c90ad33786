"""What AAA-linear and AAA-sine have in common."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from agents.defenders.aaa.aaa import AAA
from agents.defenders.aaa.descent import descend, top_probability
from agents.defenders.aaa.linear import AAALinear
from agents.defenders.aaa.sine import AAASine
from arena.classifiers import Classifier
from arena.classifiers.calibration import ece, temperature_grid
from arena.conformance.defender_checks import check_defender
from arena.datasets import Split
from arena.game.blame import DefenderError
from arena.players import Defender, Response, Rows
from arena.players.parameters import parameters
from arena.rules.losses import margin
from arena.rules.outcome import labels_of

BOTH = pytest.mark.parametrize("kind", [AAALinear, AAASine])


def logits(n: int, classes: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(n, classes, generator=draw)
    z[torch.arange(n), torch.randint(classes, (n,), generator=draw)] += 8 * torch.rand(n, generator=draw)
    return z


def unguarded(defender: AAA, z: Tensor, temperature: float) -> Tensor:
    top = z.argmax(1)
    rest = {"beta": defender.beta, "steps": defender.kappa, "lr": defender.lr}
    t = defender.target(margin(z, top))
    return descend(z, top, t, top_probability(z, top, temperature), **rest)


def splits(classifier: Classifier, n: int = 120) -> SimpleNamespace:
    """Images of which the labels are those of the pixels in three cases of four."""
    draw = torch.Generator().manual_seed(5)
    x = torch.rand(n, *classifier.shape, generator=draw)
    labels = classifier(x).argmax(1)
    labels[::4] = torch.randint(classifier.classes, (len(labels[::4]),), generator=draw)
    return SimpleNamespace(calibration=Split(x, torch.arange(n), labels))


@BOTH
@pytest.mark.slow
@pytest.mark.conformance
def test_conforms(kind: type[AAA]) -> None:
    check_defender(kind(temperature=1.2, kappa=10))


@pytest.mark.slow
@pytest.mark.conformance
def test_conforms_when_it_tunes_itself() -> None:
    check_defender(AAALinear(kappa=1))


@BOTH
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.08, 30.0])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_labels_stay(kind: type[AAA], classes: int, temperature: float) -> None:
    z = logits(400, classes)
    answer, _ = kind().defend(z, temperature)
    assert torch.equal(answer.argmax(1), z.argmax(1))
    assert (answer != z).any(1).float().mean() > 0.9


@BOTH
def test_the_guard_acts_where_labels_would_change_and_nowhere_else(kind: type[AAA]) -> None:
    z, defender = logits(2000, 10), kind(beta=1.0)
    moved = unguarded(defender, z, 2.08)
    changed = moved.argmax(1) != z.argmax(1)
    assert 0.01 < changed.float().mean() < 0.5
    answer, guarded = defender.defend(z, 2.08)
    assert torch.equal(guarded, changed)
    assert torch.equal(answer[~guarded], moved[~guarded])
    top = z.argmax(1)
    expected = defender.target(margin(z, top)).clamp_min(0.05)[guarded]
    assert torch.allclose(margin(answer, top)[guarded], expected, atol=1e-5)
    others = torch.ones_like(z, dtype=torch.bool).scatter_(1, top[:, None], False) & guarded[:, None]
    assert torch.equal(answer[others], z[others])


@BOTH
def test_the_loss_of_equation_6_falls(kind: type[AAA]) -> None:
    z = logits(500, 10)
    top, defender = z.argmax(1), kind()
    t, confidence = defender.target(margin(z, top)), (z / 1.5).softmax(1).amax(1)

    def loss(scores: Tensor) -> Tensor:
        p = scores.softmax(1).gather(1, top[:, None])[:, 0]
        return (margin(scores, top) - t).abs() + defender.beta * (p - confidence).abs()

    answer, guarded = defender.defend(z, 1.5)
    assert (loss(answer) < loss(z))[~guarded].float().mean() > 0.99
    assert loss(answer).mean() < 0.6 * loss(z).mean()


@BOTH
@pytest.mark.parametrize("classes", [2, 10, 257])
def test_an_answer_is_the_same_bits_in_any_batch(kind: type[AAA], classes: int) -> None:
    defender, z = kind(kappa=25), logits(133, classes)
    z[5], z[77, 1] = math.nan, math.inf
    whole, guarded = defender.defend(z, 1.7)
    order = torch.randperm(133, generator=torch.Generator().manual_seed(3))
    for rows in (order, *order[:40].split(1), order[:3], order[50:83]):
        answer, flags = defender.defend(z[rows], 1.7)
        assert torch.equal(answer.nan_to_num(7.0), whole[rows].nan_to_num(7.0))
        assert torch.equal(flags, guarded[rows])


@BOTH
def test_rows_that_are_not_finite_pass_by(kind: type[AAA]) -> None:
    z = logits(6, 4)
    z[1, 2], z[3, 0], z[4, 3] = math.nan, math.inf, -math.inf
    answer, guarded = kind(beta=0.5).defend(z, 1.0)
    for i in (1, 3, 4):
        assert torch.equal(answer[i].nan_to_num(7.0), z[i].nan_to_num(7.0))
        assert not guarded[i]
    assert torch.equal(answer[[0, 2, 5]], kind(beta=0.5).defend(z[[0, 2, 5]], 1.0)[0])


_FINITE = (
    st.floats(-(2.0**100), 2.0**100, width=32)
    | st.floats(-20, 20, width=32)
    | st.sampled_from([0.0, 1.0, 6.0])
)


@given(
    z=arrays.arrays("float32", st.tuples(st.integers(1, 5), st.integers(2, 7)), elements=_FINITE),
    temperature=st.sampled_from([0.001, 0.7, 1.0, 3.0, 1000.0]),
    kind=st.sampled_from([AAALinear, AAASine]),
)
def test_finite_logits_have_finite_answers_and_their_labels(
    z: Any, temperature: float, kind: type[AAA]
) -> None:
    scores = torch.from_numpy(z)
    answer, _ = kind(kappa=40).defend(scores, temperature)
    assert answer.isfinite().all()
    assert torch.equal(labels_of(answer), labels_of(scores))


@BOTH
def test_ties_keep_the_lowest_index(kind: type[AAA]) -> None:
    z = torch.tensor([[1.0, 4, 4, 0], [2, 2, 2, 2], [0, 0, 0, 5]])
    assert labels_of(kind().defend(z, 1.0)[0]).tolist() == [1, -1, 3]


@BOTH
def test_no_steps_are_no_defense(kind: type[AAA]) -> None:
    z = logits(50, 10)
    answer, guarded = kind(kappa=0).defend(z, 1.0)
    assert torch.equal(answer, z)
    assert not guarded.any()


@dataclass(frozen=True)
class Flags(Defender):
    """Flags the first game and declines to answer the second."""

    def respond(self, x: Tensor, rows: Rows, inner: Any) -> Response:
        return Response(inner(x, rows).scores, declined=rows.key == 1, flagged=rows.key == 0)


@BOTH
def test_in_a_service_guarded_rows_are_flagged(
    kind: type[AAA], service, ask_as, pixels, images: Tensor
) -> None:
    defender = kind(beta=0.5, temperature=3.0)
    expected, guarded = defender.defend(pixels(images), 3.0)
    assert guarded.any()
    response = service(defender).respond(images, ask_as(range(150)))
    assert torch.equal(response.scores, expected)
    assert torch.equal(response.flagged, guarded)
    stacked = service(defender, Flags()).respond(images, ask_as(range(150)))
    assert torch.equal(stacked.scores, expected)
    assert torch.equal(stacked.flagged, guarded | (torch.arange(150) == 0))
    assert torch.equal(stacked.declined, torch.arange(150) == 1)


@BOTH
def test_it_is_not_random_and_keeps_no_memory(kind: type[AAA], service, ask_as, images: Tensor) -> None:
    assert not kind().random
    assert kind().memory == "none"
    oracle = service(kind(temperature=1.0, kappa=10))
    first = oracle.respond(images, ask_as(range(150))).scores
    oracle.commit(torch.ones(150, dtype=torch.bool))
    assert torch.equal(oracle.respond(images, ask_as(range(150), turn=9)).scores, first)
    assert torch.equal(oracle.fresh(images, ask_as(range(150))).scores, first)


@BOTH
def test_fit_tunes_the_temperature_and_tells(kind: type[AAA], pixels: Classifier) -> None:
    before = kind(kappa=20)
    world = splits(pixels)
    fitted = before.fit(pixels, world)
    facts = fitted.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {"temperature", "ece_before", "ece_after", "guard_rate"}
    assert facts["temperature"] in temperature_grid().tolist()
    z, labels = pixels(world.calibration.images), world.calibration.labels
    answer, guarded = before.defend(z, facts["temperature"])
    assert facts["ece_before"] == ece(z, labels)
    assert facts["ece_after"] == ece(answer, labels) < ece(before.defend(z, 1.0)[0], labels)
    assert facts["guard_rate"] == pytest.approx(guarded.float().mean().item())
    assert before.facts() == {}
    assert fitted == before
    assert parameters(fitted) == parameters(before)


@BOTH
def test_fit_keeps_a_temperature_given(kind: type[AAA], pixels: Classifier) -> None:
    assert kind(kappa=5, temperature=2.5).fit(pixels, splits(pixels)).facts()["temperature"] == 2.5


def test_fit_leaves_out_images_whose_logits_are_not_finite(pixels: Classifier) -> None:
    def broken(x: Tensor) -> Tensor:
        z = pixels(x)
        return torch.where(x[:, 2, 7, 7, None] < 0.5, math.nan, z)

    world = splits(pixels)
    fine = (world.calibration.images[:, 2, 7, 7] >= 0.5).nonzero()[:, 0]
    part = Split(world.calibration.source, fine, world.calibration.labels[fine])
    shattered = Classifier.of(broken, sample=part.images)
    expected = AAALinear(kappa=5).fit(pixels, SimpleNamespace(calibration=part)).facts()
    assert AAALinear(kappa=5).fit(shattered, world).facts() == expected


@BOTH
def test_without_temperature_or_fit_it_says_so(kind: type[AAA], service, ask_as, images: Tensor) -> None:
    with pytest.raises(
        DefenderError, match=f"ValueError: {kind.__name__} must be fitted first, or be given its temperature"
    ):
        service(kind()).respond(images, ask_as(range(150)))


@BOTH
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alpha": 0.0}, "alpha must be above 0 and at most .*; found 0.0"),
        ({"alpha": 1.01}, "alpha must be above 0 and at most .*, above which margins aimed at turn negative"),
        ({"alpha": math.nan}, "alpha must be above 0"),
        ({"tau": 0.0}, "tau must be finite and above 0; found 0.0"),
        ({"tau": math.inf}, "tau must be finite and above 0; found inf"),
        ({"beta": -1.0}, "beta must be finite and at least 0; found -1.0"),
        ({"kappa": -1}, "kappa must be from 0 to 10000; found -1"),
        ({"kappa": 10_001}, "kappa must be from 0 to 10000; found 10001"),
        ({"lr": 0.0}, "lr must be finite and above 0; found 0.0"),
        ({"temperature": 0.0}, "temperature must be finite and above 0; found 0.0"),
        ({"temperature": math.nan}, "temperature must be finite and above 0; found nan"),
    ],
)
def test_wrong_parameters_are_named(kind: type[AAA], given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**given)
