"""Agents whose code is imported by processes of their own alone: what stands for one everywhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class StandIn:
    """Stands for an agent whose code is not imported here.

    Attributes:
        name: as it is registered, or "module:Class".
        spec: its specification as JSON, from which its own process builds it.
        told: what it says of itself, as JSON: of its parameters, and what it needs or is.
        modules: those that its specification names.
    """

    name: str
    spec: str
    told: str
    modules: tuple[str, ...]

    @cached_property
    def declared(self) -> Mapping[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = json.loads(self.told)
        return found

    @property
    def parameters(self) -> dict[str, Any]:
        """Its parameters by name, as the log keeps them."""
        return dict(self.declared["parameters"])

    @property
    def title(self) -> str:
        """Its name with those of the agents inside it."""
        return f"{self.name}({', '.join(inside)})" if (inside := self.declared["inside"]) else self.name
