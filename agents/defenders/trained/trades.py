"""TRADES: trained for accuracy, and for answers that hardly change nearby."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from agents.defenders.parts.trained_perturbing import TrainedPerturbing
from arena.players.card import Card
from arena.training import Recipe
from arena.training.objectives import TradesTraining


@dataclass(frozen=True)
class Trades(TrainedPerturbing):
    """TRADES (Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled Trade-off between
    Robustness and Accuracy", ICML 2019, eq. 5): cross-entropy, and beta times the divergence between the
    answers to x and to the image near it where that is largest.

    By SGD with momentum .9 and, as in the authors' code, a rate that falls to a tenth after 74 of 76 epochs.

    Attributes:
        beta: 1/lambda, the weight of the divergence (the authors: 6 or 1 on CIFAR-10, 1 on MNIST).
        norm: of the ball, "linf" or "l2".
        epsilon, step, steps: its radius, and the length and number of steps, in pixel units of [0,1] (the
            authors: .031, .007 and 10 on CIFAR-10; .3, .01 and 40 on MNIST).
        weight_decay: of the training (the authors' code: 2e-4 on CIFAR-10, 0 on MNIST).
        epochs, rate, batch: of the training (the authors' code: 76, .1 and 128 on CIFAR-10; 100, .01 and 128
            on MNIST).
        augment: of the training images, as recipes name it (the authors, on CIFAR-10: "crop-flip").
        init: train from the classifier's "weights", or from "scratch".
        seed: of the training.
        weights: a file with weights of the network, in place of a training.
    """

    epochs: int = 76
    rate: float = 0.1
    beta: float = 6.0
    epsilon: float = 0.031
    step: float = 0.007

    card: ClassVar[Card] = Card(
        alters=("weights",),
        paper="Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, Theoretically Principled Trade-off between "
        "Robustness and Accuracy, ICML 2019",
        claims="56.6 % of CIFAR-10's images stay right under PGD of 20 steps at linf .031 (84.9 % clean, "
        "beta 6)",
        broken_by=("hop-skip-jump",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be finite and at least 0; found {self.beta}")

    def recipe(self) -> Recipe:
        objective = TradesTraining(
            norm=self.norm, epsilon=self.epsilon, step=self.step, steps=self.steps, beta=self.beta
        )
        return self.by_sgd((74 / 76,), self.weight_decay, objective)
