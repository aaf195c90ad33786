"""Temperature scaling: calibration, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from agents.defenders.aaa.temperature import best_temperature
from agents.defenders.parts.confidence import calibration_logits
from agents.defenders.parts.tuned import Tuned
from agents.parameters import check_choice
from arena.classifiers import Classifier
from arena.classifiers.calibration import ece, nll_temperature, temperature_grid
from arena.players import Rows, Splits
from arena.players.card import Card
from arena.rules.outcome import labels_of


@dataclass(frozen=True)
class TemperatureScaling(Tuned):
    """Answer z / T (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017).

    It is calibration alone: labels and the order of all scores stay, so that it defends nothing by itself; it
    tells apart what a defense owes to its calibration. A row in which float32 would lose its label, or whose
    scores would overflow, stays as it is.

    Attributes:
        criterion: what T makes least on the calibration split: the negative log-likelihood (the paper), or
            the calibration error on the grid of AAA (Chen et al. 2022).
        temperature: T, given instead.
    """

    criterion: Literal["nll", "ece"] = "nll"
    temperature: float | None = None

    card: ClassVar[Card] = Card(
        alters=("scores",),
        paper="Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017",
        claims="confidence that matches accuracy; nothing against attacks",
        broken_by=("square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        check_choice(self, criterion=("nll", "ece"))
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be finite and above 0, or not given; found {self.temperature}"
            )

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with T found on the calibration split."""
        logits, labels = calibration_logits(classifier, splits, "TemperatureScaling")

        def error(temperature: float) -> float:
            return ece(logits.double() / temperature, labels)

        if self.temperature is not None:
            temperature = self.temperature
        elif self.criterion == "nll":
            temperature = nll_temperature(logits, labels)
        else:
            temperature = best_temperature(error, temperature_grid().tolist())
        return self.with_facts(
            {"temperature": temperature, "ece_before": error(1.0), "ece_after": error(temperature)}
        )

    def preparing(self, splits: Splits) -> int:
        return len(splits.calibration)

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        temperature = self.number("temperature")
        scaled = scores / temperature
        same = (labels_of(scaled) == labels_of(scores)) & scaled.isfinite().all(dim=1)
        return torch.where(same[:, None], scaled, scores)
