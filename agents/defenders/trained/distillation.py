"""Defensive distillation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from agents.defenders.parts.trained_form import TrainedForm
from arena import draws
from arena.classifiers import Classifier
from arena.players import Splits
from arena.players.card import Card
from arena.training import HardeningJob, Recipe, trained_in
from arena.training.objectives import AnyObjective, CrossEntropy
from arena.training.objectives import Distillation as Objective


@dataclass(frozen=True)
class Distillation(TrainedForm):
    """Defensive distillation (Papernot, McDaniel, Wu, Jha and Swami, "Distillation as a Defense to
    Adversarial Perturbations against Deep Neural Networks", S&P 2016, section IV).

    A teacher is trained with softmax(z/T); its answers at T are the labels of a student of the same form,
    trained at T from scratch, which then answers at temperature 1. Its logits are about T times as large:
    float32 probabilities saturate at 0 and 1, and gradients of their logarithm vanish.

    Both are trained by Adam, whose rate halves at each fifth of the epochs. The authors take SGD, which at
    T = 100 learns little before 10^4 steps, since T divides the gradients.

    Attributes:
        temperature: T (the authors: 1 to 100; 100 for MNIST).
        epochs, rate, batch: of both trainings (the authors: 50 epochs of batches of 128).
        augment: of the training images, as recipes name it.
        init: the teacher's training goes on from the classifier's "weights", or begins from "scratch".
        seed: of the trainings.
        weights: a file with weights of the student, in place of both trainings.
    """

    epochs: int = 50
    rate: float = 0.002
    temperature: float = 100.0

    card: ClassVar[Card] = Card(
        alters=("weights",),
        paper="Papernot, McDaniel, Wu, Jha and Swami, Distillation as a Defense to Adversarial Perturbations "
        "against Deep Neural Networks, S&P 2016",
        claims="success of saliency-map attacks falls from 95.9 % to 0.45 % on MNIST, and from 87.9 % to "
        "5.1 % on CIFAR-10",
        broken_by=("square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be finite and above 0; found {self.temperature}")

    def recipe(self) -> Recipe:
        """The student's."""
        return self._recipe(Objective(temperature=self.temperature))

    def preparing(self, splits: Splits) -> int:
        if self.weights is not None:
            return 0
        images = len(splits.train)
        return self._teachers().images(images) + self.recipe().images(images)

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        if self.weights is not None:
            return super().harden(classifier, splits)
        lesson = HardeningJob(classifier, splits, self._teachers(), self.seed, self.init)
        teacher = trained_in(lesson)
        seed = draws.derive(self.seed, "student")
        return trained_in(HardeningJob(classifier, splits, self.recipe(), seed, "scratch", taught_by=teacher))

    def _teachers(self) -> Recipe:
        return self._recipe(CrossEntropy(temperature=self.temperature))

    def _recipe(self, objective: AnyObjective) -> Recipe:
        return Recipe(
            objective=objective,
            optimiser="adam",
            rate=self.rate,
            batch=self.batch,
            epochs=self.epochs,
            schedule="step",
            milestones=(0.2, 0.4, 0.6, 0.8),
            factor=0.5,
            augment=self.augment,
        )
