"""PredCoin's countermeasure: the image itself decides whether its answer is flipped."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from agents.defenders.predcoin.detect_and_flip import DetectAndFlip
from agents.defenders.predcoin.exact_sums import PIXEL_BITS, exact_sum
from agents.defenders.predcoin.first_convolution import first_convolution_sum
from agents.parameters import check_within
from arena.classifiers import Classifier
from arena.players import Rows, Splits
from arena.players.card import Card

WEIGHT_BITS = 12
"""A is rounded to multiples of 2^-12."""
UNIT_BITS = PIXEL_BITS + WEIGHT_BITS
"""The sum is counted in units of 2^-36."""


@dataclass(frozen=True)
class Parity:
    """Which images have an even digit: N = sum X A + c, all integers; q = floor(N / U), and q mod 2.

    Attributes:
        weight: [d] int64, A in units of 2^-12.
        constant: c in units of 2^-36.
        unit: U, the digit in the same unit.
    """

    weight: Tensor
    constant: int
    unit: int

    @classmethod
    def of(cls, classifier: Classifier, digit: float) -> Parity:
        """Raises ValueError if `first_convolution_sum` does, or if N might reach 2^62."""
        a, c = first_convolution_sum(classifier)
        scale = 2.0**UNIT_BITS
        weight = (a.flatten() * 2.0**WEIGHT_BITS).round().long()
        constant = round(c * scale)
        largest = int(weight.abs().sum()) * 2**PIXEL_BITS + abs(constant)
        if largest >= 2**62:
            raise ValueError(
                f"conv-parity: the sum of the first convolution of {classifier.name!r} may reach "
                f"{largest / scale:.3g}, and integers of 64 bits hold it to {2**62 / scale:.3g}"
            )
        return cls(weight.to(classifier.device), constant, round(digit * scale))

    def even(self, x: Tensor) -> Tensor:
        """[n] bool, of images `x` [n,C,H,W]."""
        n = exact_sum(x, self.weight) + self.constant
        return torch.div(n, self.unit, rounding_mode="floor").remainder(2) == 0


class ByParity(DetectAndFlip):
    """What defenders that flip by a parity share: their parameter, and the result of `fit`."""

    digit: float
    _parity: Parity | None

    def __post_init__(self) -> None:
        super().__post_init__()
        # Finer, it would be less than a few units of 2^-36; coarser, more than integers of 64 bits hold.
        check_within(self, 1e-10, 1e7, "digit")

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        parity = Parity.of(classifier, self.digit)
        return super().fit(classifier, splits)._with(parity)

    def state(self) -> dict[str, Any]:
        parity = self._found()
        return {**super().state(), **{f"parity {f.name}": getattr(parity, f.name) for f in fields(parity)}}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        parity = Parity(**{f.name: state[f"parity {f.name}"] for f in fields(Parity)})
        return super().restore(state, classifier)._with(parity)

    def _with(self, parity: Parity) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_parity", parity)
        return fitted

    def _found(self) -> Parity:
        if self._parity is None:
            raise ValueError(f"{type(self).__name__} must be fitted first")
        return self._parity

    def even(self, x: Tensor) -> Tensor:
        """[n] bool: whether the digit of images `x` [n,C,H,W] is even."""
        return self._found().even(x)


@dataclass(frozen=True)
class ConvParity(ByParity):
    """PredCoin's countermeasure to repeated queries (Guo et al., section 7.2).

    The coin is replaced by the parity of the last digit of S, the sum of the first convolution's outputs:
    even: the answer is flipped; odd: it stays. The same image always gets the same answer. A sum of floats
    has no last digit that is the same in two batches; here S = <A, x> + c is an exact integer.

    Attributes:
        gamma, bound, search, images, seed: as for PredCoin.
        digit: the unit of the last digit, in units of S. With a coarse one (1e-2) all probes of one gradient
            estimate have the same parity, and so the same sign.
    """

    digit: float = 1e-6
    _parity: Parity | None = field(default=None, init=False, repr=False, compare=False)

    card: ClassVar[Card] = Card(
        alters=("label",),
        paper="Guo et al., PredCoin: Defense against Query-based Hard-label Attack, 2021, section 7.2",
        claims="repeating a query no longer helps, for 1.7 points of accuracy on CIFAR-10",
        broken_by=("surfree", "boundary", "hop-skip-jump", "square"),
    )

    def flips(self, x: Tensor, rows: Rows) -> Tensor:
        return self.even(x)
