"""An ensemble whose members are smooth and unlike each other, so that attacks hardly transfer among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from agents.defenders.parts.ensemble import Several
from agents.defenders.parts.trained_form import TrainedForm
from arena.classifiers import Classifier
from arena.players.card import Card
from arena.training import Recipe
from arena.training.objectives import TRSTraining


@dataclass(frozen=True)
class TRS(TrainedForm):
    """Transferability Reduced Smooth ensemble (Yang et al., "TRS: Transferability Reduced Ensemble via
    Promoting Gradient Diversity and Model Smoothness", NeurIPS 2021): m networks of the classifier's form,
    trained together to minimise sum_i CE_i + scale (similarity S + smoothness M), S the mean |cos| of their
    gradients and M their mean squared length; answered is ln((1/m) sum_i softmax(z_i)).

    As in the authors' code, M is taken at images half of which are moved by six steps to where gradients are
    large, within linf balls that grow from `epsilon` to `last_epsilon`; trained by Adam with weight decay
    1e-4 and a rate that falls to a tenth after 1/3 and 2/3 of the epochs. An answer costs m forward passes.

    Attributes:
        members: m.
        similarity, smoothness, scale: the weights of the loss (the authors: 2, 2 and 5).
        epsilon, last_epsilon: in pixel units of [0,1] (the authors: .1 and .2); 0: all images stay as they
            are.
        epochs, rate, batch: of the training (the authors: 120, 1e-3 and 128).
        augment: of the training images, as recipes name it (the authors, on CIFAR-10: "crop-flip").
        init: train all members from the classifier's "weights", or from "scratch", each from other ones.
        seed: of the training.
        weights: a file with weights of the network in this form, in place of a training.
    """

    epochs: int = 120
    rate: float = 1e-3
    members: int = 3
    similarity: float = 2.0
    smoothness: float = 2.0
    scale: float = 5.0
    epsilon: float = 0.1
    last_epsilon: float = 0.2

    card: ClassVar[Card] = Card(
        alters=("weights",),
        paper="Yang, Li, Xu, Zuo, Chen, Zhou, Rubinstein, Zhang and Li, TRS: Transferability Reduced "
        "Ensemble via Promoting Gradient Diversity and Model Smoothness, NeurIPS 2021",
        claims="attacks hardly transfer between its members, so that the ensemble withstands what each of "
        "them does not",
        broken_by=("square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.members <= 100:
            raise ValueError(f"members must be from 2 to 100; found {self.members}")
        for name in ("similarity", "smoothness", "scale"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and at least 0; found {value}")
        for name in ("epsilon", "last_epsilon"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} must be from 0 to 1; found {value}")

    def form(self, classifier: Classifier) -> Several:
        if classifier.reading is not None:
            raise ValueError(
                f"trs averages softmax(logits) of its members; classifier {classifier.name!r} answers "
                f"probabilities"
            )
        return Several(self.members)

    def recipe(self) -> Recipe:
        return Recipe(
            objective=TRSTraining(
                similarity=self.similarity,
                smoothness=self.smoothness,
                scale=self.scale,
                epsilon=self.epsilon,
                last_epsilon=self.last_epsilon,
                epochs=self.epochs,
            ),
            optimiser="adam",
            rate=self.rate,
            weight_decay=1e-4,
            batch=self.batch,
            epochs=self.epochs,
            schedule="step",
            milestones=(1 / 3, 2 / 3),
            augment=self.augment,
        )
