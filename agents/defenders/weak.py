"""A planted weak defense: a control that any attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from arena.players import Defender, Rows
from arena.players.card import Card


@dataclass(frozen=True)
class Weak(Defender):
    """A control: Gaussian noise on every query, a fortieth of an 8-bit level, that defends nothing.

    It is a random defense in every respect but its effect: the same image gets other scores each time, and
    verdicts are votes. Who fails here and wins against no defense is stopped by randomness alone, however
    little there is of it, and its failures elsewhere are no sign of a good defense (Carlini et al., On
    Evaluating Adversarial Robustness, 2019; Pintor et al., Indicators of Attack Failure, NeurIPS 2022).

    Attributes:
        sigma: the standard deviation of the noise, in pixel units of [0,1].
    """

    sigma: float = 1e-4

    random: ClassVar[bool] = True
    control: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("input",),
        paper="none: a control of this project",
        claims="nothing: it is random in all but its effect",
        broken_by=("square", "surfree"),
    )

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 1e-3:
            raise ValueError(
                f"sigma must be above 0 and at most 0.001: a control defends nothing; found {self.sigma}"
            )

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return rows.normal(x.shape[1:]).mul_(self.sigma).add_(x)
