"""No defense: the classifier's answers are unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from arena.players import Defender
from arena.players.card import Card


@dataclass(frozen=True)
class NoDefense(Defender):
    """The undefended classifier, the reference of every comparison. It has no parameters."""

    control: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=(),
        paper="none",
        claims="nothing: it is the reference of every comparison",
        broken_by=("square", "sign-hunter", "hop-skip-jump", "surfree"),
    )
