"""A monitor: how often the defenders inside it change the label."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from arena.classifiers import Classifier
from arena.players import Defender, Inner, Response, Rows, Splits
from arena.players.card import Card
from arena.rules.outcome import labels_of


@dataclass(frozen=True)
class Disagreement(Defender):
    """Flags every answer whose label is not the undefended classifier's, where both give one; changes none.

    Outermost in a stack, as in `stack = ["disagreement", "snd"]`, its share of flagged queries is P_mis, the
    chance that h(x) != h(x + eta) over an attack's queries (Small Noise Defense, ICLR 2021 submission, Table
    5). Flags of the defenders inside are not shown then. Each query costs one more forward pass.
    """

    asks: ClassVar[int] = 2
    card: ClassVar[Card] = Card(
        alters=(),
        paper=(
            "none: a monitor, after the P_mis of Byun, Go and Kim, On the Effectiveness of Small "
            "Input Noise for Defending Against Query-based Black-Box Attacks, ICLR 2021 submission, "
            "Table 5"
        ),
        claims="nothing: it flags the answers that the defenders inside change",
        broken_by=("square", "hop-skip-jump"),
    )

    _classifier: Any = field(default=None, init=False, repr=False, compare=False)

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This monitor with the hardened classifier to compare with."""
        return self.restore({}, classifier)

    def preparing(self, splits: Splits) -> int:
        return 0

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_classifier", classifier)
        return fitted

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        if self._classifier is None:
            raise ValueError("Disagreement must be fitted first: it compares with the classifier")
        response = inner(x, rows)
        own, given = labels_of(self._classifier(x)), labels_of(response.scores)
        return replace(response, flagged=(own != given) & (own >= 0) & (given >= 0))
