"""What a catalogue says of a defense beside its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Place: TypeAlias = Literal["weights", "input", "features", "scores", "label", "service"]
PLACES: tuple[Place, ...] = get_args(Place)


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

    def __post_init__(self) -> None:
        if not isinstance(self.alters, tuple) or not set(self.alters) <= set(PLACES):
            raise ValueError(f"alters must be a tuple of {', '.join(PLACES)}; found {self.alters!r}")
        for name in ("paper", "claims"):
            if not isinstance(text := getattr(self, name), str) or not text.strip():
                raise ValueError(f"{name} must be a text that is not empty; found {text!r}")
        if not isinstance(self.broken_by, tuple) or not all(isinstance(n, str) for n in self.broken_by):
            raise ValueError(f"broken_by must be a tuple of names of attackers; found {self.broken_by!r}")
