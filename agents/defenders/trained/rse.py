"""Random self-ensemble: noise in every layer, in training and at play, and the mean of several passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.defenders.parts.averages import averaged
from agents.defenders.parts.noisy_forms import NoisyConvolutions
from agents.defenders.parts.trained_form import TrainedForm
from agents.parameters import check_within
from arena.classifiers import Classifier
from arena.players import Inner, Response, Rows
from arena.players.card import Card
from arena.training import Recipe


@dataclass(frozen=True)
class RSE(TrainedForm):
    """Random Self-Ensemble (Liu, Cheng, Zhang and Hsieh, "Towards Robust Neural Networks via Random
    Self-ensemble", ECCV 2018): noise layers x + sigma v, v ~ N(0, I), on the image and before every other
    convolution, in training and at play; answered is ln((1/n) sum_j softmax(z_j)) over n passes with noise of
    their own.

    Trained by cross-entropy, as in the authors' code: SGD with momentum .9 and weight decay 5e-4, and a rate
    that falls to a tenth after .4, .7 and .9 of the epochs (80, 60, 40 and 20). Those of a network with
    BatchNorm are chosen with the noise on. The verdict `base` is the network without noise.

    Attributes:
        sigma_init: of the noise on the image, in pixel units of [0,1].
        sigma_inner: of the noise before the other convolutions, in the features' own units.
        passes: n (Small Noise Defense: 5).
        epochs, rate, batch: of the training (the authors: 200, .01 and 128).
        augment: of the training images, as recipes name it (the authors, on CIFAR-10: "crop-flip").
        init: train from the classifier's "weights", or from "scratch".
        seed: of the training.
        weights: a file with weights of the network in this form, in place of a training.
    """

    epochs: int = 200
    rate: float = 0.01
    sigma_init: float = 0.2
    sigma_inner: float = 0.1
    passes: int = 5

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("weights", "input", "features"),
        paper="Liu, Cheng, Zhang and Hsieh, Towards Robust Neural Networks via Random Self-ensemble, ECCV "
        "2018",
        claims="an ensemble of infinitely many noisy networks that takes no more memory than one: 86 % right "
        "under a C&W attack on CIFAR-10 that leaves a plain VGG-16 less than 10 %",
        broken_by=("pgd",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # Pixels are in [0,1], features in units of their own; noise near the largest float32 would leave no
        # row a label.
        check_within(self, 0, 1000, "sigma_init")
        check_within(self, 0, 1e6, "sigma_inner")
        if not 1 <= self.passes <= 1000:
            raise ValueError(f"passes must be from 1 to 1000; found {self.passes}")

    @property
    def asks(self) -> int:  # type: ignore[override]
        return self.passes

    def form(self, classifier: Classifier) -> NoisyConvolutions:
        return NoisyConvolutions(classifier.shape, self.sigma_init, self.sigma_inner)

    def recipe(self) -> Recipe:
        return self.by_sgd((0.4, 0.7, 0.9), 5e-4)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        return averaged(x, rows, inner, self.passes)
