"""Adversarial Attack on Attackers: what AAA-linear and AAA-sine share."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from agents.defenders.aaa.descent import descend, top_probability
from agents.defenders.aaa.temperature import MOST_TRIED, best_temperature
from arena.classifiers import Classifier
from arena.classifiers.calibration import ece, temperature_grid
from arena.players import Defender, Inner, Response, Rows, Splits, tell
from arena.rules.outcome import labels_of

GUARDED_MARGIN = 0.05


@dataclass(frozen=True)
class AAA(Defender, ABC):
    """Logits whose margin misleads and whose confidence is calibrated (Chen et al., "Adversarial Attack on
    Attackers", NeurIPS 2022).

    The logits z of each row take kappa steps of Adam from z0 to minimise |m(z) - t| + beta |p_c(z) - p*|:
    they move the margin m between the two largest towards the target t of `target`, and the probability of
    the class c that leads in z0 towards p* = max softmax(z0 / temperature). Losses are summed over a batch;
    the authors' code takes their mean, which makes an answer depend on its batch.

    This does not guarantee the label. A row whose argmax would change is flagged, and answered with z0, but
    with its largest logit set to max(t, .05) above the second. Rows that are not finite stay unchanged.
    """

    alpha: float = 1.0
    tau: float = 6.0
    beta: float = 5.0
    kappa: int = 100
    lr: float = 0.1
    temperature: float | None = None
    _facts: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    largest_alpha: ClassVar[float]
    """Above it t is negative at some margins, so that another label becomes the target."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= self.largest_alpha:
            raise ValueError(
                f"alpha must be above 0 and at most {self.largest_alpha}, above which margins aimed at turn "
                f"negative; found {self.alpha}"
            )
        for name in ("tau", "lr", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and above 0; found {value}")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be finite and at least 0; found {self.beta}")
        if not 0 <= self.kappa <= 10_000:
            raise ValueError(f"kappa must be from 0 to 10000; found {self.kappa}")

    @abstractmethod
    def target(self, margin: Tensor) -> Tensor:
        """The target margin t [n] of the original margin m0 [n] >= 0."""

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with its temperature tuned on the calibration split, and its `facts`."""
        logits, labels = _calibration_logits(classifier, splits)

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
        return self._with(facts)

    def preparing(self, splits: Splits) -> int:
        return len(splits.calibration)

    def _with(self, facts: dict[str, float]) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_facts", facts)
        return fitted

    def state(self) -> dict[str, Any]:
        return {"facts": self.facts()}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        return self._with(dict(state["facts"]))

    def facts(self) -> dict[str, Any]:
        """The temperature; on the calibration split, the ECE without and with AAA and the share guarded."""
        return dict(self._facts)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        response = inner(x, rows)
        temperature = self._facts.get("temperature", self.temperature)
        if temperature is None:
            raise ValueError(f"{type(self).__name__} must be fitted first, or be given a temperature")
        scores, guarded = self.defend(response.scores, temperature)
        return replace(response, scores=scores, flagged=response.flagged | guarded)

    @torch.no_grad()
    def defend(self, scores: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """The logits [n,K] to answer in place of `scores` [n,K], and whether the guard kept the label [n]."""
        finite = scores.isfinite().all(dim=1)
        logits = torch.where(finite[:, None], scores, 0.0)
        top = logits.argmax(dim=1)
        second = logits.scatter(1, top[:, None], -math.inf).amax(dim=1)
        margin = logits.amax(dim=1) - second
        usable = finite & margin.isfinite() & (labels_of(logits) >= 0)
        target = self.target(margin)
        moved = descend(
            logits,
            top,
            target,
            top_probability(logits, top, temperature),
            beta=self.beta,
            steps=self.kappa,
            lr=self.lr,
        )
        guarded = usable & (moved.argmax(dim=1) != top)
        # A margin large enough not to be lost when float32 adds it to a large logit.
        apart = target.clamp_min(GUARDED_MARGIN).maximum(second.abs() * 2.0**-20)
        kept = logits.scatter(1, top[:, None], (second + apart)[:, None])
        answer = torch.where(guarded[:, None], kept, moved)
        return torch.where(usable[:, None], answer, scores), guarded


def within_cell(margin: Tensor, tau: float) -> Tensor:
    """w [n] in [-tau/2, tau/2): margin [n] minus attractor (floor(margin / tau) + 1/2) tau (eq. 4)."""
    return margin.remainder(tau) - tau / 2


def _calibration_logits(classifier: Classifier, splits: Splits) -> tuple[Tensor, Tensor]:
    """Logits [n,K] and labels [n] of those images of the calibration split whose logits are finite.

    Raises ValueError if there are none.
    """
    split = splits.calibration
    cuts = range(0, len(split), classifier.batch)
    pieces = [classifier(split.take(slice(c, c + classifier.batch)).to(classifier.device)) for c in cuts]
    logits = torch.cat(pieces)
    finite = logits.isfinite().all(dim=1)
    if not finite.any():
        raise ValueError(
            f"AAA tunes itself on finite logits; those of all {len(finite)} calibration images hold "
            f"infinities or NaN (a class that is masked for some images, say)"
        )
    return logits[finite], split.labels.to(logits.device)[finite]
