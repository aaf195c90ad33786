"""The order in which a stack acts, with packaged defenders (docs/defenders.md): the first one listed is
outermost; the innermost is hardened and fitted first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.aaa.linear import AAALinear
from agents.defenders.bit_depth import BitDepth, reduced
from agents.defenders.predcoin.detect_and_flip import swap
from agents.defenders.predcoin.predcoin import PredCoin
from agents.defenders.snd import SND
from agents.defenders.stateful.blacklight import Blacklight
from agents.defenders.temperature_scaling import TemperatureScaling
from agents.defenders.trained.trades import Trades
from arena.classifiers import Classifier
from arena.conformance.tiny_worlds import TinyWorld, tiny_world
from arena.game.prepared import read, written
from arena.game.stack import Stack, prepare
from arena.game.stack_oracle import StackOracle, Watch
from arena.players import Defender, Response, Rows
from arena.players.registry import build_defender

AAA = AAALinear(temperature=1.0)
TRADES = Trades(epochs=1, batch=16, steps=2, rate=0.01, init="weights")
FLIPS_ALL = PredCoin(gamma=0.0, coin=1.0, images=12)
"""PredCoin that takes every query for an estimation query, and flips it."""


class Seen(Watch):
    """What the classifier is asked about."""

    def __init__(self) -> None:
        self.x: list[Tensor] = []

    def asked(self, x: Tensor, rows: Rows) -> None:
        self.x.append(x.clone())


Ask = Callable[..., tuple[Response, Tensor]]


@pytest.fixture
def ask(pixels: Classifier, ask_as: Callable[..., Rows]) -> Ask:
    """`ask(defenders, x)`: the answer of a stack to images, and what its classifier saw."""

    def answer(defenders: Sequence[Defender], x: Tensor) -> tuple[Response, Tensor]:
        seen = Seen()
        oracle = StackOracle(Stack(pixels, tuple(defenders)), games=len(x), watch=seen)
        return oracle.respond(x, ask_as(range(len(x)))), torch.cat(seen.x)

    return answer


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return tiny_world(1, "cpu")


@pytest.fixture(scope="module")
def trainable() -> TinyWorld:
    """A world whose network can be trained."""
    layer = nn.Linear(64, 4)
    with torch.no_grad():  # all classes alike at the mean image, so that each is answered
        layer.weight.copy_(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)))
        layer.bias.copy_(-layer.weight.sum(dim=1) / 2)
    layers = nn.Sequential(nn.Flatten(), layer)
    return TinyWorld((1, 8, 8), 4, Classifier(layers, shape=(1, 8, 8), classes=4, batch=64), 0)


@pytest.mark.parametrize("defenders", [(AAA, SND(0.05)), (SND(0.05), AAA)], ids=["aaa-snd", "snd-aaa"])
def test_scores_of_noisy_images_are_rewritten(
    defenders: tuple[Defender, ...], ask: Ask, pixels: Classifier, images: Tensor
) -> None:
    """Noise acts on the way in and AAA on the way out, so that both orders rewrite noisy logits."""
    response, seen = ask(defenders, images)
    assert not torch.equal(seen, images)
    assert torch.equal(response.scores, AAA.defend(pixels(seen), 1.0)[0])


def test_on_the_way_in_the_outer_one_acts_first(ask: Ask, images: Tensor) -> None:
    noise, levels = SND(0.05, clamp=True), BitDepth(b=3)
    _, after_noise = ask([noise, levels], images)
    assert torch.equal(after_noise, reduced(after_noise, 3))
    assert not torch.equal(after_noise, reduced(images, 3))
    _, before_noise = ask([levels, noise], images)
    assert not torch.equal(before_noise, reduced(before_noise, 3))


def test_on_the_way_out_the_inner_one_acts_first(ask: Ask, pixels: Classifier, images: Tensor) -> None:
    half = TemperatureScaling(temperature=2.0)
    logits = pixels(images)
    assert torch.equal(ask([half, AAA], images)[0].scores, AAA.defend(logits, 1.0)[0] / 2)
    assert torch.equal(ask([AAA, half], images)[0].scores, AAA.defend(logits / 2, 1.0)[0])


def twice(
    defenders: Sequence[Defender], pixels: Classifier, x: Tensor, ask_as: Callable[..., Rows]
) -> Response:
    """What a stack answers to images that each client sends a second time."""
    oracle = StackOracle(Stack(pixels, tuple(defenders)), games=len(x))
    oracle.respond(x, ask_as(range(len(x))))
    oracle.commit(torch.ones(len(x), dtype=torch.bool))
    return oracle.respond(x, ask_as(range(len(x)), turn=2))


def test_a_history_outside_noise_sees_the_images_that_were_sent(
    pixels: Classifier, images: Tensor, ask_as: Callable[..., Rows]
) -> None:
    outside = twice([Blacklight(), SND(0.2)], pixels, images[:20], ask_as)
    assert outside.flagged.all() and outside.refused.all()
    inside = twice([SND(0.2), Blacklight()], pixels, images[:20], ask_as)
    assert not inside.flagged.any() and not inside.refused.any()


OUTSIDE: list[Any] = [
    {"name": "aaa-linear", "temperature": 1.0},
    {"name": "aaa-sine", "temperature": 1.0},
    {"name": "temperature-scaling", "temperature": 2.0},
    {"name": "snd", "sigma": 0.0},
    {"name": "rnd", "nu": 0.0},
    {"name": "bit-depth", "b": 8},
    {"name": "unknown", "theta": 0.1},
    "boundary-defense",
    "dld",
]


@pytest.mark.parametrize("spec", OUTSIDE, ids=lambda spec: spec if isinstance(spec, str) else spec["name"])
def test_a_refusal_inside_is_kept_by_what_is_outside(
    spec: Any, pixels: Classifier, images: Tensor, ask_as: Callable[..., Rows]
) -> None:
    x = reduced(images[:20], 8)  # as `bit-depth` leaves it
    response = twice([build_defender(spec), Blacklight()], pixels, x, ask_as)
    assert response.refused.all() and response.flagged.all() and response.withheld.all()


def test_a_refusal_inside_is_kept_by_a_coin_and_a_monitor_outside(
    world: TinyWorld, ask_as: Callable[..., Rows]
) -> None:
    for outside in (FLIPS_ALL, build_defender("disagreement")):
        stack = prepare(world.classifier, [outside, Blacklight()], world)
        response = twice(stack.defenders, stack.base, world.split("asked", 8).images, ask_as)
        assert response.refused.all()


def test_predcoin_flips_what_the_hardened_network_answers(
    trainable: TinyWorld, ask_as: Callable[..., Rows]
) -> None:
    stack = prepare(trainable.classifier, [FLIPS_ALL, TRADES], trainable)
    x = trainable.calibration.images[:16]
    response = StackOracle(stack, games=16).respond(x, ask_as(range(16)))
    assert not torch.equal(stack.base(x), trainable.classifier(x))
    assert torch.equal(response.scores, swap(stack.base(x)))
    assert response.flagged.all()


def test_what_is_fitted_is_fitted_to_the_hardened_network_wherever_that_stands(trainable: TinyWorld) -> None:
    fitted = [
        prepare(trainable.classifier, defenders, trainable)
        for defenders in ([AAALinear(), TRADES], [TRADES, AAALinear()], [AAALinear()])
    ]
    shas = [stack.base.sha for stack in fitted]
    assert shas[0] == shas[1] != shas[2]
    assert fitted[0].defenders[0].facts() == fitted[1].defenders[1].facts() != fitted[2].defenders[0].facts()


@pytest.mark.parametrize(
    "defenders",
    [[FLIPS_ALL, TRADES], [Blacklight(), SND(0.05), TRADES], [AAALinear(), BitDepth(), TRADES]],
    ids=["predcoin-trades", "blacklight-snd-trades", "aaa-bit-depth-trades"],
)
def test_a_prepared_stack_is_read_back_to_the_bit(
    defenders: list[Defender], trainable: TinyWorld, ask_as: Callable[..., Rows]
) -> None:
    stack = prepare(trainable.classifier, defenders, trainable)
    again = read(written(stack), trainable.classifier, defenders)
    x, rows = trainable.calibration.images[:16], ask_as(range(16), seed=3)
    one, other = (StackOracle(s, seed=5, games=16).respond(x, rows) for s in (stack, again))
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.flagged, other.flagged)
