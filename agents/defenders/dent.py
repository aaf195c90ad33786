"""Defensive entropy minimisation: the network is adapted to every query, and forgets it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from agents.defenders.parts.adapting import Adapting, RowNorm
from agents.defenders.parts.surgery import changed
from arena.classifiers import Classifier
from arena.players import Defender, Splits
from arena.players.card import Card
from arena.training import in_form


@dataclass(frozen=True)
class Dent(Defender):
    """DENT (Wang et al., "Fighting Gradients with Gradients: Dynamic Defenses against Adversarial Attacks",
    2021), in the form that AAA's authors attacked (Chen et al., NeurIPS 2022): for each query gamma and beta
    of all BatchNorm layers, copied for the row, take `steps` steps of Adam that lower the entropy
    H = - sum_k p_k ln p_k of the answer p; then the row is answered, and the copies are forgotten.

    Entropies are summed over the batch, so that a row's steps are its own; the authors' loss ("shot") and its
    mean over a batch make them depend on the other rows. Running statistics stay, dropout stays off. It needs
    a network with BatchNorm2d, and costs about 2 `steps` + 1 forward passes.

    Attributes:
        steps: of Adam, from 1 (AAA: 6).
        lr: Adam's learning rate.
    """

    steps: int = 6
    lr: float = 1e-3

    card: ClassVar[Card] = Card(
        alters=("weights",),
        paper="Wang, Ju, Shelhamer, Wagner and Darrell, Fighting Gradients with Gradients: Dynamic Defenses "
        "against Adversarial Attacks, arXiv:2105.08714, 2021",
        claims="adapting to every input makes the network a moving target, on top of any training, which "
        "raises robust accuracy against AutoAttack by 20 to 30 points",
        broken_by=("hop-skip-jump", "square"),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise ValueError(f"steps must be from 1 to 1000; found {self.steps}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be finite and above 0; found {self.lr}")

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return self._adapting(classifier)

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        return self._adapting(classifier).with_tensors(tensors)

    def preparing(self, splits: Splits) -> int:
        return 0

    def _adapting(self, classifier: Classifier) -> Classifier:
        layers = classifier.module.named_modules()
        norms = {name: RowNorm for name, layer in layers if isinstance(layer, nn.BatchNorm2d)}
        if not norms:
            raise ValueError(
                f"dent adapts the scales and shifts of BatchNorm; classifier {classifier.name!r} has no "
                f"torch.nn.BatchNorm2d that can be reached"
            )
        return in_form(classifier, lambda module: Adapting(changed(module, norms), self.steps, self.lr))
