"""What defenders share that train on the worst image found near each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from agents.defenders.parts.trained_form import TrainedForm
from agents.parameters import check_choice


@dataclass(frozen=True)
class TrainedPerturbing(TrainedForm):
    """A network trained at images x' with ||x' - x|| <= epsilon, found by projected gradient ascent."""

    norm: Literal["linf", "l2"] = "linf"
    epsilon: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    weight_decay: float = 2e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, norm=("linf", "l2"))
        for name in ("epsilon", "step"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and above 0; found {value}")
        if not 1 <= self.steps <= 10_000:
            raise ValueError(f"steps must be from 1 to 10000; found {self.steps}")
        if not 0 <= self.weight_decay <= 1:
            raise ValueError(f"weight_decay must be from 0 to 1; found {self.weight_decay}")
