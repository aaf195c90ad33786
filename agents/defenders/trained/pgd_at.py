"""Adversarial training by projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agents.defenders.parts.trained_perturbing import TrainedPerturbing
from arena.players.card import Card
from arena.training import Recipe
from arena.training.objectives import PGDTraining


@dataclass(frozen=True)
class PGDAT(TrainedPerturbing):
    """Adversarial training (Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models
    Resistant to Adversarial Attacks", ICLR 2018, eq. 2.1): cross-entropy at the worst image that PGD finds.

    By SGD with momentum .9 and a rate that falls to a tenth after 1/2 and 3/4 of the epochs. RND-AT is the
    stack ["rnd", "pgd-at"].

    Attributes:
        norm: of the ball, "linf" or "l2".
        epsilon, step, steps: its radius, and the length and number of steps, in pixel units of [0,1] (the
            authors: 8/255, 2/255 and 7 on CIFAR-10; .3, .01 and 40 on MNIST).
        random_start: the first image is uniform in the ball, else it is x.
        weight_decay: of the training.
        epochs, rate, batch: of the training (the authors, on CIFAR-10: 80,000 steps, which are 205 epochs
            of its 50,000 images, .1 and 128).
        augment: of the training images, as recipes name it (the authors, on CIFAR-10: "crop-flip").
        init: train from the classifier's "weights", or from "scratch".
        seed: of the training.
        weights: a file with weights of the network, in place of a training.
    """

    epochs: int = 205
    rate: float = 0.1
    steps: int = 7
    random_start: bool = True

    card: ClassVar[Card] = Card(
        alters=("weights",),
        paper="Madry, Makelov, Schmidt, Tsipras and Vladu, Towards Deep Learning Models Resistant to "
        "Adversarial Attacks, ICLR 2018",
        claims="under PGD, 89 % of MNIST's images stay right at linf .3 (98.8 % clean), and 46 % of "
        "CIFAR-10's at 8/255 (87 % clean)",
        broken_by=("hop-skip-jump",),
    )

    def recipe(self) -> Recipe:
        objective = PGDTraining(
            norm=self.norm,
            epsilon=self.epsilon,
            step=self.step,
            steps=self.steps,
            random_start=self.random_start,
        )
        return self.by_sgd((0.5, 0.75), self.weight_decay, objective)
