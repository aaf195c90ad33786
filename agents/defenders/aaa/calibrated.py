"""What the forms of AAA share: a temperature that is tuned, and labels that stay."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from agents.defenders.aaa.temperature import MOST_TRIED, best_temperature
from agents.defenders.parts.confidence import calibration_logits
from agents.defenders.parts.tuned import Tuned
from arena.classifiers import Classifier
from arena.classifiers.calibration import ece, temperature_grid
from arena.players import Defender, Inner, Response, Rows, Splits, tell
from arena.rules.outcome import labels_of

GUARDED_MARGIN = 0.05


class Calibrated(Tuned, ABC):
    """A map of logits whose temperature makes its answers' calibration error least on the calibration split.

    A row whose label the map would change is flagged, and answered as `Margins.kept` has it. Rows that are
    not finite stay unchanged.
    """

    temperature: float | None

    @abstractmethod
    def moved(self, margins: Margins, temperature: float) -> tuple[Tensor, Tensor]:
        """The logits [n,K] to answer in place of `margins.logits`, and the target margin t [n]."""

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with its temperature tuned on the calibration split; its facts are that, the ECE
        there without and with it, and the share guarded."""
        logits, labels = calibration_logits(classifier, splits, "AAA")

        tried = 0

        def error(temperature: float) -> float:
            nonlocal tried
            tell("temperatures tried", tried, MOST_TRIED)
            tried += 1
            return ece(self.defend(logits, temperature)[0], labels)

        temperature = self.temperature or best_temperature(error, temperature_grid().tolist())
        scores, guarded = self.defend(logits, temperature)
        facts = {
            "temperature": temperature,
            "ece_before": ece(logits, labels),
            "ece_after": ece(scores, labels),
            "guard_rate": guarded.float().mean().item(),
        }
        return self.with_facts(facts)

    def preparing(self, splits: Splits) -> int:
        return len(splits.calibration)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        response = inner(x, rows)
        temperature = self.number("temperature")
        scores, guarded = self.defend(response.scores, temperature)
        return replace(response, scores=scores, flagged=response.flagged | guarded)

    @torch.no_grad()
    def defend(self, scores: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """The logits [n,K] to answer in place of `scores` [n,K], and whether the guard kept the label [n]."""
        margins = Margins(scores)
        moved, target = self.moved(margins, temperature)
        guarded = margins.usable & (labels_of(moved) != margins.top)
        answer = torch.where(guarded[:, None], margins.kept(target), moved)
        return torch.where(margins.usable[:, None], answer, scores), guarded


class Margins:
    """Logits and the margins between their two largest.

    Attributes:
        logits: [n,K]; 0 in rows that are not finite.
        top: [n] the place of the largest, ties to the lowest.
        second: [n] the second largest.
        margin: [n] m0 >= 0.
        usable: [n] bool: rows that are finite, as is their margin, and give a label.
    """

    def __init__(self, scores: Tensor) -> None:
        finite = scores.isfinite().all(dim=1)
        self.logits = torch.where(finite[:, None], scores, 0.0)
        self.top = self.logits.argmax(dim=1)
        self.second = self.logits.scatter(1, self.top[:, None], -math.inf).amax(dim=1)
        self.margin = self.logits.amax(dim=1) - self.second
        self.usable = finite & self.margin.isfinite() & (labels_of(self.logits) >= 0)

    def kept(self, target: Tensor) -> Tensor:
        """The logits, but with the largest set to max(t, .05) above the second."""
        # A margin large enough not to be lost when float32 adds it to a large logit.
        apart = target.clamp_min(GUARDED_MARGIN).maximum(self.second.abs() * 2.0**-20)
        return self.logits.scatter(1, self.top[:, None], (self.second + apart)[:, None])


def within_cell(margin: Tensor, tau: float) -> Tensor:
    """w [n] in [-tau/2, tau/2): margin [n] minus attractor (floor(margin / tau) + 1/2) tau (eq. 4)."""
    return margin.remainder(tau) - tau / 2


def check_positive(defender: Defender, *names: str) -> None:
    """Raises ValueError at the first of these parameters that is given, and not finite and above 0."""
    for name in names:
        value = getattr(defender, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and above 0; found {value}")
