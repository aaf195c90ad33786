"""Gaussian augmentation: fine-tuned on noisy images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from agents.defenders.parts.trained_form import TrainedForm
from arena.players.card import Card
from arena.training import Recipe
from arena.training.objectives import GaussianNoise


@dataclass(frozen=True)
class GaussianAugmentation(TrainedForm):
    """Gaussian augmentation fine-tuning (Qin, Fan, Zha and Wu, "Random Noise Defense Against Query-Based
    Black-Box Attacks", NeurIPS 2021, section 5): cross-entropy at x + sigma v, v ~ N(0, I), so that a network
    tolerates a larger noise at play. RND-GF is the stack ["rnd", "gaussian-augmentation"].

    By SGD with momentum .9 and a rate that falls to 0 along a cosine. The paper minimises -log of the mean
    probability over draws; one draw a step bounds that from above, which is what is done here.

    Attributes:
        sigma: the standard deviation of the noise, in pixel units of [0,1] (the paper: as large as RND's nu).
        epochs, rate, batch: of the training, which the paper does not state.
        augment: of the training images besides, as recipes name it.
        init: train from the classifier's "weights", or from "scratch".
        seed: of the training.
        weights: a file with weights of the network, in place of a training.
    """

    epochs: int = 20
    rate: float = 0.01
    init: Literal["weights", "scratch"] = "weights"
    sigma: float = 0.05

    card: ClassVar[Card] = Card(
        alters=("weights",),
        paper="Qin, Fan, Zha and Wu, Random Noise Defense Against Query-Based Black-Box Attacks, NeurIPS "
        "2021",
        claims="with it, RND keeps its clean accuracy at a larger noise, which protects better",
        broken_by=("square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be finite and above 0; found {self.sigma}")

    def recipe(self) -> Recipe:
        return Recipe(
            objective=GaussianNoise(sigma=self.sigma),
            rate=self.rate,
            momentum=0.9,
            batch=self.batch,
            epochs=self.epochs,
            schedule="cosine",
            augment=self.augment,
        )
