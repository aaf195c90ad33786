"""What a catalogue says of a defense beside its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Place: TypeAlias = Literal["weights", "input", "features", "scores", "label", "service"]


@dataclass(frozen=True)
class Card:
    """A defense in the words of a catalogue.

    Attributes:
        alters: where it acts: the classifier's weights, the image, features within the network, the scores,
            the label alone, or whether and to whom the service answers.
        paper: authors, title, venue and year.
        claims: what its authors say that it does, one clause with a figure where they give one.
        broken_by: the packaged attackers, by name, that get through it here, the strongest first; () where
            none is known.
    """

    alters: tuple[Place, ...]
    paper: str
    claims: str
    broken_by: tuple[str, ...] = ()
