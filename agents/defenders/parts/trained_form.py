"""What defenders share that train a network, as it is or in another form."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from agents.parameters import check_choice
from arena.classifiers import Classifier
from arena.players import Defender, Splits
from arena.training import HardeningJob, Recipe, in_form, trained_in, weights_file, with_weights
from arena.training.hardening_job import Form
from arena.training.objectives import AnyObjective, CrossEntropy
from arena.training.recipe import Augmentation


@dataclass(frozen=True)
class TrainedForm(Defender, ABC):
    """A network, as it is or in another form, trained on the train split or with weights made elsewhere."""

    epochs: int
    rate: float
    batch: int = 128
    augment: Augmentation = "none"
    init: Literal["weights", "scratch"] = "scratch"
    seed: int = 0
    weights: str | None = None

    def __post_init__(self) -> None:
        for name, most in (("epochs", 10**6), ("batch", 2**20)):
            if not 1 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} must be from 1 to {most}; found {value}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be finite and above 0; found {self.rate}")
        check_choice(self, augment=get_args(Augmentation), init=("weights", "scratch"))

    def form(self, classifier: Classifier) -> Form | None:
        """How the network of `classifier` is changed; None: not at all."""
        return None

    @abstractmethod
    def recipe(self) -> Recipe:
        """How it is trained."""

    def by_sgd(
        self,
        milestones: tuple[float, ...],
        weight_decay: float,
        objective: AnyObjective | None = None,
        nesterov: bool = False,
    ) -> Recipe:
        """SGD with momentum .9 and a rate that falls to a tenth at each of the `milestones`, shares of the
        run; None: cross-entropy."""
        return Recipe(
            objective=objective or CrossEntropy(),
            rate=self.rate,
            momentum=0.9,
            nesterov=nesterov,
            weight_decay=weight_decay,
            batch=self.batch,
            epochs=self.epochs,
            schedule="step",
            milestones=milestones,
            augment=self.augment,
        )

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        form = self.form(classifier)
        if self.weights is not None:
            return with_weights(classifier, self.weights, form)
        return trained_in(
            HardeningJob(classifier, splits, self.recipe(), seed=self.seed, start=self.init, form=form)
        )

    def preparing(self, splits: Splits) -> int:
        return 0 if self.weights is not None else self.recipe().images(len(splits.train))

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        return in_form(classifier, self.form(classifier)).with_tensors(tensors)

    def files(self) -> tuple[Path, ...]:
        return () if self.weights is None else (weights_file(self.weights),)
