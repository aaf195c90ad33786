from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.confidence_gated import ConfidenceGated
from agents.defenders.feature_squeezing import FeatureSqueezing
from agents.defenders.resize_pad import ResizePad
from agents.defenders.rnd import RND
from agents.defenders.trained.trades import Trades
from agents.defenders.unknown import Unknown
from arena.classifiers import Classifier
from arena.classifiers.calibration import nll_temperature
from arena.classifiers.keyed import KeyedLayer
from arena.datasets import Split
from arena.game.prepared import read, written
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle
from arena.players import Defender, Inner, Response, Rows, Splits
from arena.training import in_form


@pytest.fixture
def world(pixels: Classifier) -> SimpleNamespace:
    draw = torch.Generator().manual_seed(2)
    x = torch.rand(300, *pixels.shape, generator=draw)
    y = torch.multinomial((pixels(x) / 2).softmax(1), 1, generator=draw)[:, 0]
    split = Split(x, torch.arange(300), y)
    return SimpleNamespace(train=split, calibration=split)


def test_it_acts_where_the_calibrated_confidence_is_low(
    pixels: Classifier, world: SimpleNamespace, ask_as, images: Tensor
) -> None:
    gated = ConfidenceGated(RND(0.2), tau=0.6)
    stack = prepare(pixels, [gated], world)
    temperature = nll_temperature(pixels(world.calibration.images), world.calibration.labels)
    unsure = (pixels(images).double() / temperature).softmax(1).amax(1) <= 0.6
    assert 0.2 < unsure.float().mean() < 0.9
    answer = StackOracle(stack, seed=3, games=150).respond(images, ask_as(range(150))).scores
    alone = StackOracle(prepare(pixels, [RND(0.2)], world), seed=3, games=150)
    noisy = alone.respond(images, ask_as(range(150))).scores
    assert torch.equal(answer, torch.where(unsure[:, None], noisy, pixels(images)))
    facts = stack.defenders[0].facts()
    assert facts["temperature"] == temperature
    assert 0.2 < facts["gated"] < 0.9


def test_at_0_it_never_acts_and_at_1_always(pixels: Classifier, ask_as, images: Tensor) -> None:
    rows, clean = ask_as(range(150)), pixels(images)

    def answer(tau: float) -> Tensor:
        gated = ConfidenceGated(RND(0.2), tau, temperature=1.0)
        return gated.respond(images, rows, lambda x, rows: Response(pixels(x))).scores

    assert torch.equal(answer(0.0), clean)
    assert (answer(1.0) != clean).any(1).all()


@dataclass(frozen=True)
class Flags(Defender):
    """Flags every answer."""

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        return replace(inner(x, rows), flagged=x.new_ones(len(x), dtype=torch.bool))


def test_flags_are_those_of_the_answer_that_is_given(pixels: Classifier, ask_as, images: Tensor) -> None:
    gated = ConfidenceGated(Unknown(theta=0.4), tau=0.6, temperature=1.0)

    def inner(x: Tensor, rows: Rows) -> Response:
        return Response(pixels(x), refused=rows.key < 3)

    response = gated.respond(images, ask_as(range(150)), inner)
    assert torch.equal(response.declined, pixels(images).softmax(1).amax(1) < 0.4)
    assert response.refused.nonzero().flatten().tolist() == [0, 1, 2]
    flagged = ConfidenceGated(Flags(), tau=0.6, temperature=1.0).respond(images, ask_as(range(150)), inner)
    assert torch.equal(flagged.flagged, pixels(images).softmax(1).amax(1) <= 0.6)


class Shift(KeyedLayer):
    """Draws one shift of all logits of a row; a constant one beside it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(0)
        self.network = network
        self.register_buffer("shift", torch.tensor(5.0))

    def forward(self, x: Tensor) -> Tensor:
        drawn = self.normal(x, (1,))
        logits: Tensor = self.network(x) + self.shift
        return logits if drawn is None else logits + drawn


@dataclass(frozen=True)
class Shifted(Defender):
    """Hardens into a network whose logits are 5 higher, and random."""

    random = True  # type: ignore[assignment]

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return in_form(classifier, Shift)

    def rebuild(self, classifier: Classifier, tensors: Any) -> Classifier:
        return in_form(classifier, Shift).with_tensors(tensors)


def test_where_it_hardens_the_unsure_rows_alone_meet_the_hardened_network(
    pixels: Classifier, world: SimpleNamespace, ask_as, images: Tensor
) -> None:
    gated = ConfidenceGated(Shifted(), tau=0.6, temperature=1.0)
    stack = prepare(pixels, [gated], world)
    unsure = pixels(images).double().softmax(1).amax(1) <= 0.6
    oracle = StackOracle(stack, seed=3, games=150)
    answer = oracle.respond(images, ask_as(range(150))).scores
    plain = StackOracle(prepare(pixels, [Shifted()], world), seed=3, games=150)
    hardened = plain.respond(images, ask_as(range(150))).scores
    assert torch.equal(answer, torch.where(unsure[:, None], hardened, pixels(images)))
    some = torch.tensor([3, 77, 149])
    assert torch.equal(oracle.respond(images[some], ask_as(some)).scores, answer[some])
    again = read(written(stack), pixels, [gated])
    assert again.base.sha == stack.base.sha
    assert torch.equal(
        StackOracle(again, seed=3, games=150).respond(images, ask_as(range(150))).scores, answer
    )


@pytest.mark.parametrize("of", [RND(), ResizePad(), FeatureSqueezing(), Unknown()])
def test_it_says_of_itself_what_the_defender_inside_does(of: Defender) -> None:
    gated = ConfidenceGated(of)
    assert (gated.random, gated.acts, gated.has_detector()) == (of.random, of.acts, of.has_detector())
    assert gated.asks == 1 + of.asks
    assert gated.memory == "none"


@dataclass(frozen=True)
class Remembers(Defender):
    @property
    def memory(self) -> Literal["game"]:
        return "game"


def test_a_defender_with_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=r'^of must be a defender without memory.* memory "game": put it'):
        ConfidenceGated(Remembers())


def test_clean_accuracy_stays_where_noise_alone_costs_some(digits, digits_cnn, ask_as) -> None:
    x, y = digits.games.images[:300], digits.games.labels[:300]

    def accuracy(*stack: Defender) -> float:
        oracle = StackOracle(prepare(digits_cnn, stack, digits), games=300)
        return (oracle.respond(x, ask_as(range(300))).scores.argmax(1) == y).float().mean().item()

    noise = RND(0.3)
    assert accuracy(noise) < accuracy() - 0.1
    assert accuracy(ConfidenceGated(noise)) > accuracy() - 0.02


@pytest.mark.slow
def test_square_finds_less(square) -> None:
    gated = {"name": "confidence-gated", "of": {"name": "rnd", "nu": 0.15}, "tau": 0.999, "temperature": 1.0}
    assert square(gated, "vote") > square("none", "vote") + 0.1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"tau": -0.1}, "tau must be from 0 to 1; found -0.1"),
        ({"tau": math.nan}, "tau must be from 0 to 1; found nan"),
        ({"temperature": 0.0}, "temperature must be finite and above 0, or not given; found 0.0"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        ConfidenceGated(RND(), **parameters)


def test_what_is_refused_inside_stays_so_whatever_the_gated_defender_would_get(
    pixels: Classifier, ask_as, images: Tensor
) -> None:
    """Noise would carry a query past a detector that has refused the image itself."""
    seen: list[int] = []

    def inner(x: Tensor, rows: Rows) -> Response:
        seen.append(len(x))
        here = (x[:, None] == images[None, :3]).flatten(2).all(2).any(1)
        return Response(pixels(x), refused=here, banned=here)

    gated = ConfidenceGated(RND(0.2), tau=1.0, temperature=1.0)
    response = gated.respond(images, ask_as(range(150)), inner)
    assert response.refused.nonzero().flatten().tolist() == [0, 1, 2]
    assert response.banned.nonzero().flatten().tolist() == [0, 1, 2]
    assert seen == [150, 147]


def test_it_reads_the_files_of_the_defender_inside_and_suits_what_that_suits(tmp_path: Path) -> None:
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"")
    assert ConfidenceGated(Trades(weights=str(weights))).files() == (weights,)
    assert ConfidenceGated(Choosy()).unsuited((1, 8, 8)) == "it needs colours"
    assert ConfidenceGated(Choosy()).unsuited((3, 8, 8)) is None


class Choosy(Defender):
    """Defends colour images alone."""

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        return None if shape[0] == 3 else "it needs colours"
