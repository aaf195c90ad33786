"""What defenders cost, and how much of it a mixture of them may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arena.evaluation.clean_utility import Utility
from arena.league.equilibrium import Cap


@dataclass(frozen=True)
class Limits:
    """The most that a mixture may cost: lost clean accuracy in percentage points, and seconds per query at
    one row relative to the undefended classifier; None: whatever it costs."""

    accuracy: float | None = None
    delay: float | None = None


def prices(utility: Utility | None, bare: Utility | None) -> dict[str, float | None]:
    """A defender's prices by name, of its place in `Limits`; None where not measured.

    Args:
        bare: the undefended classifier's worth; accuracies are compared only if they are of as many images.
    """
    if utility is None:
        return {"accuracy": None, "delay": None}
    lost = None
    if bare is not None and bare.images == utility.images:
        lost = 100 * (bare.accuracy - utility.accuracy)
    delay = utility.cost_1
    if math.isnan(delay):  # a stack that answers as the classifier alone has no ratio of its own
        delay = math.nan if math.isnan(utility.seconds_1) else 1.0
    return {"accuracy": lost, "delay": None if math.isnan(delay) else delay}


def undefended(utilities: Mapping[str, Utility]) -> Utility | None:
    """The undefended classifier's worth, as far as labels go: that of a defender which agrees with it on all
    images; None where none does."""
    return next((u for u in utilities.values() if u.agreement == 1.0), None)


def caps_of(limits: Limits, priced: Sequence[Mapping[str, float | None]]) -> list[Cap]:
    """The caps of a mixture of defenders whose prices are `priced`, one each; all must be known."""
    return [
        Cap(name, np.array([own[name] for own in priced], np.float64), most)
        for name in ("accuracy", "delay")
        if (most := getattr(limits, name)) is not None
    ]
