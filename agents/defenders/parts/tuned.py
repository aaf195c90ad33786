"""Defenders that find a few numbers on the calibration split."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from arena.classifiers import Classifier
from arena.players import Defender


@dataclass(frozen=True)
class Tuned(Defender):
    """A defender of which `fit` finds numbers by name, which are its facts and all of its state."""

    _facts: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def with_facts(self, facts: Mapping[str, float]) -> Self:
        """This defender, fitted."""
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_facts", dict(facts))
        return fitted

    def facts(self) -> dict[str, Any]:
        return dict(self._facts)

    def state(self) -> dict[str, Any]:
        return {"facts": dict(self._facts)}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        return self.with_facts(state["facts"])

    def number(self, name: str) -> float:
        """What `fit` found by this name, else the parameter of this name.

        Raises:
            ValueError: if there is neither.
        """
        value: float | None = self._facts.get(name, getattr(self, name))
        if value is None:
            raise ValueError(f"{type(self).__name__} must be fitted first, or be given its {name}")
        return value
