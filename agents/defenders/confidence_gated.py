"""A defender that acts only where the classifier is unsure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from agents.defenders.parts.confidence import calibration_logits, confidence
from agents.defenders.parts.tuned import Tuned
from arena.classifiers import Classifier
from arena.classifiers.calibration import nll_temperature
from arena.classifiers.keyed import keyed_to
from arena.classifiers.reading import Reading
from arena.players import Defender, Inner, Response, Rows, Splits
from arena.players.card import Card
from arena.training import in_form


@dataclass(frozen=True)
class ConfidenceGated(Tuned):
    """A defender applied where the calibrated confidence is low (Zimmer, Andreina, Marson and Karame,
    "Closing the Gap: Achieving Better Accuracy-Robustness Tradeoffs against Query-Based Attacks", AAAI 2024):
    the answer is that of `of` where max softmax(z / T) <= tau, and z elsewhere. Attacks near the boundary ask
    where confidence is low, honest clients seldom do.

    T makes the negative log-likelihood least on the calibration split. A query that is passed on to `of`
    costs one more answer of the classifier. One that a defender inside this one in a stack withholds is not
    passed on: what is refused stays refused.

    Where `of` hardens the classifier, both networks are held: z is that of the given one, and the hardened
    one answers where it is unsure.

    Attributes:
        of: the defender, one without memory (the paper: rnd, resize-pad and JPEG).
        tau: the highest confidence at which `of` acts; the paper traces the curve over it: at 0 it never
            acts, at 1 always.
        temperature: T, given instead.
    """

    of: Defender
    tau: float = 0.9
    temperature: float | None = None

    _fitted: Any = field(default=None, init=False, repr=False, compare=False)

    card: ClassVar[Card] = Card(
        alters=("input", "scores"),
        paper="Zimmer, Andreina, Marson and Karame, Closing the Gap, AAAI 2024",
        claims="the robustness of the defender inside for less of its loss of clean accuracy",
        broken_by=("square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        if isinstance(self.of, Defender) and self.of.memory != "none":
            raise ValueError(
                f"of must be a defender without memory, as it would not see every query; found one of memory "
                f'"{self.of.memory}": put it outside of this one, in a stack'
            )
        if not 0 <= self.tau <= 1:
            raise ValueError(f"tau must be from 0 to 1; found {self.tau}")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be finite and above 0, or not given; found {self.temperature}"
            )

    @property
    def random(self) -> bool:
        return self._own.random

    @property
    def acts(self) -> bool:
        return self._own.acts

    @property
    def asks(self) -> int:  # type: ignore[override]
        return 1 + self.of.asks

    @property
    def _own(self) -> Defender:
        """`of`, as it was fitted if it was."""
        own: Defender = self.of if self._fitted is None else self._fitted
        return own

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        hardened = self.of.harden(classifier, splits)
        if hardened is classifier:
            return classifier
        temperature = self._tuned(classifier, splits)[0]
        return in_form(
            classifier, lambda own: Gate(own, hardened.module, temperature, self.tau, classifier.reading)
        )

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        hardened = self.of.rebuild(classifier, _below(tensors, "defended."))
        temperature = tensors["temperature"].item()
        return in_form(
            classifier, lambda own: Gate(own, hardened.module, temperature, self.tau, classifier.reading)
        )

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with `of` fitted, and T found on the calibration split."""
        temperature, gated = self._tuned(classifier, splits)
        return self._with({"temperature": temperature, "gated": gated}, self.of.fit(classifier, splits))

    def _tuned(self, classifier: Classifier, splits: Splits) -> tuple[float, float]:
        """T, and the share of the calibration images at which `of` acts."""
        logits, labels = calibration_logits(classifier, splits, "ConfidenceGated")
        temperature = self.temperature or nll_temperature(logits, labels)
        return temperature, self._unsure(logits, temperature).double().mean().item()

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        return self.of.unsuited(shape)

    def files(self) -> tuple[Path, ...]:
        return self.of.files()

    def preparing(self, splits: Splits) -> int | None:
        own, hardens = self.of.preparing(splits), type(self.of).harden is not Defender.harden
        return None if own is None else own + len(splits.calibration) * (2 if hardens else 1)

    def _with(self, facts: dict[str, float], fitted: Defender) -> Self:
        made = self.with_facts(facts)
        object.__setattr__(made, "_fitted", fitted)
        return made

    def state(self) -> dict[str, Any]:
        return {**super().state(), **{f"of.{name}": value for name, value in self._own.state().items()}}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        return self._with(dict(state["facts"]), self.of.restore(_below(state, "of."), classifier))

    def facts(self) -> dict[str, Any]:
        """T, the share of the calibration images at which `of` acts, and what `of` found."""
        return {**self._facts, "of": self._own.facts()}

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        temperature = self.number("temperature")
        sure = inner(x, rows)
        unsure = (self._unsure(sure.scores, temperature) & ~sure.withheld).nonzero()[:, 0]
        if not len(unsure):
            return sure
        defended = self._own.respond(x[unsure], rows[unsure], inner)
        flags = {
            name: getattr(sure, name).index_copy(0, unsure, getattr(defended, name))
            for name in Response.FLAGS
            if sure.given(name) is not None or defended.given(name) is not None
        }
        return Response(sure.scores.index_copy(0, unsure, defended.scores), **flags)

    def _unsure(self, scores: Tensor, temperature: float) -> Tensor:
        return confidence(scores.double() / temperature) <= self.tau

    def has_detector(self) -> bool:
        return self.of.has_detector()

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        """That of `of`; below 0 where it does not act."""
        temperature = self.number("temperature")
        found = self._own.detector(x, classifier)
        return found.where(self._unsure(classifier(x), temperature), found.clamp(max=-1e-6))


class Gate(nn.Module):
    """`defended` where `clean` is unsure, images [n,C,H,W] -> logits [n,K]: max softmax(z / T) <= tau."""

    temperature: Tensor

    def __init__(
        self, clean: nn.Module, defended: nn.Module, temperature: float, tau: float, reading: Reading | None
    ) -> None:
        super().__init__()
        self.clean, self.defended, self.tau, self.reading = clean, defended, tau, reading
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64))

    def extra_repr(self) -> str:
        return f"tau={self.tau}"

    def forward(self, x: Tensor) -> Tensor:
        clean: Tensor = self.clean(x)
        logits = clean if self.reading is None else self.reading(clean)
        unsure = (confidence(logits.double() / self.temperature) <= self.tau).nonzero()[:, 0]
        if not len(unsure):
            return clean
        with keyed_to(unsure):
            return clean.index_copy(0, unsure, self.defended(x[unsure]))


def _below(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}
