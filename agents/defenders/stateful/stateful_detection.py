"""Stateful Detection: queries that lie close to many earlier ones of the same account."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from agents.defenders.stateful.encoder import SMALLEST, Encoder, train_encoder
from agents.defenders.stateful.history import Scope, Stateful
from agents.defenders.stateful.neighbours import NeighbourIndex, mean_distances
from agents.parameters import check_choice
from arena import draws
from arena.classifiers import Classifier
from arena.players import Splits
from arena.players.card import Card

IMAGES = 5000
"""The most training images that the encoder is trained on, and delta is calibrated on."""
PERCENTILE = 0.1


@dataclass(frozen=True)
class StatefulDetection(Stateful):
    """Stateful Detection (Chen, Carlini and Wagner, "Stateful Detection of Black-Box Adversarial Attacks",
    2019).

    A query x is an alarm if the mean distance of its embedding e(x) to the k nearest of its account is below
    delta; then the account's history is forgotten, as if the account had been closed and another opened. The
    first k queries of a history are not tested. So who asks around one point raises an alarm at every k + 1st
    query: Q queries are floor(Q / (k + 1)) alarms.

    delta is the 0.1 percentile of the mean distances of training images to their k nearest others (to all,
    where they are fewer). The authors' code counts the distance 0 of an image to itself among the k; here it
    is left out. They calibrate on 50000 images, this class on up to 5000, which lie farther apart.

    Attributes:
        history, action, capacity: as for all defenders with a history; by default per account. A remembered
            query takes 4 bytes for each class and for each value of its embedding (3 x 32 x 32 pixels: 12 kB,
            123 MB for 10^4; encoded: 1 kB).
        k: neighbours.
        delta: the threshold, in the units of the embedding; None: calibrated in `fit`. (On CIFAR-10 the
            authors have 5.069 for pixels, 1.44 for their encoder.)
        embedding: `pixels`, the image itself; `encoder`, a network trained in `fit` to map an image and its
            slightly changed copies to points close together.
        epochs: of training the encoder.
        seed: of that training.
    """

    history: Scope = "account"
    capacity: int = 10_000
    k: int = 50
    delta: float | None = None
    embedding: Literal["pixels", "encoder"] = "pixels"
    epochs: int = 5
    seed: int = 0
    _delta: float | None = field(default=None, init=False, repr=False, compare=False)
    _encoder: Encoder | None = field(default=None, init=False, repr=False, compare=False)

    card: ClassVar[Card | None] = Card(
        alters=("service",),
        paper='Chen, Carlini and Wagner, "Stateful Detection of Black-Box Adversarial Attacks", 2019 '
        "(arXiv 1907.05587)",
        claims="an attack on CIFAR-10 burns an account every 51 queries or little more, at a false positive "
        "rate of .1 %",
        broken_by=("square", "account-rotation", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= self.capacity:
            raise ValueError(f"k must be from 1 to capacity {self.capacity}; found {self.k}")
        if self.delta is not None and not 0 < self.delta < math.inf:
            raise ValueError(f"delta must be finite and above 0, or not given; found {self.delta}")
        check_choice(self, embedding=("pixels", "encoder"))
        if not 1 <= self.epochs <= 10_000:
            raise ValueError(f"epochs must be from 1 to 10000; found {self.epochs}")

    def preparing(self, splits: Splits) -> int:
        return 0

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with its encoder trained and delta calibrated.

        Raises:
            ValueError: if there are too few training images, or they are too small to be encoded.
        """
        if self.delta is not None and self.embedding == "pixels":
            return self._with(self.delta, None)
        split = splits.train
        if len(split) < 2:
            raise ValueError(f"stateful-detection compares training images, at least 2; found {len(split)}")
        order = draws.uniform(draws.derive(self.seed, "images"), torch.arange(len(split)), 0, ()).argsort()
        images = split.take(order[:IMAGES]).to(classifier.device)
        encoder = self._trained(images) if self.embedding == "encoder" else None
        if self.delta is not None:
            return self._with(self.delta, encoder)
        found = mean_distances(embedded(images, encoder), min(self.k, len(images) - 1))
        return self._with(float(found.quantile(PERCENTILE / 100)), encoder)

    def _trained(self, images: Tensor) -> Encoder:
        height, width = images.shape[2:]
        if min(height, width) < SMALLEST:
            raise ValueError(
                f"the encoder takes images of at least {SMALLEST} x {SMALLEST}; found {height} x {width}"
            )
        with torch.enable_grad():
            return train_encoder(images, self.epochs, draws.derive(self.seed, "encoder"))

    def facts(self) -> dict[str, Any]:
        return {"delta": self._delta}

    def state(self) -> dict[str, Any]:
        tensors = {} if self._encoder is None else self._encoder.state_dict()
        return {"delta": self._delta, **{f"encoder.{name}": t for name, t in tensors.items()}}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        tensors = {n.removeprefix("encoder."): t for n, t in state.items() if n.startswith("encoder.")}
        encoder = None
        if tensors:
            encoder = Encoder(tuple(classifier.shape)).to(classifier.device).eval().requires_grad_(False)
            encoder.load_state_dict(tensors)
        return self._with(state["delta"], encoder)

    def _with(self, delta: float, encoder: Encoder | None) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_delta", delta)
        object.__setattr__(fitted, "_encoder", encoder)
        return fitted

    def features(self, x: Tensor) -> Tensor:
        return embedded(x, self._encoder)

    def index(self, shape: tuple[int, ...]) -> NeighbourIndex:
        if self._delta is None:
            raise ValueError("StatefulDetection must be fitted first: its threshold is found on images")
        return NeighbourIndex(self.capacity, self.k, self._delta)


@torch.no_grad()
def embedded(x: Tensor, encoder: Encoder | None) -> Tensor:
    """e(x) [n,D] of images [n,C,H,W]."""
    if encoder is None:
        return x.flatten(1)
    return torch.cat([encoder(piece) for piece in torch.split(x, 256)]) if len(x) else x.new_zeros(0, 256)
