"""No defense: the classifier's answers are unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from arena.players import Defender


@dataclass(frozen=True)
class NoDefense(Defender):
    """The undefended classifier, the reference of every comparison. It has no parameters."""

    control: ClassVar[bool] = True
