"""Checks of agents' parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from arena.players import Attacker, Defender

Agent: TypeAlias = Attacker | Defender


def check_parameters(agent: Agent, *, positive: Sequence[str] = (), counts: Sequence[str] = ()) -> None:
    """Check that some parameters are finite and above 0, and others at least 1, if they are not None.

    Raises:
        ValueError: at the first that is not.
    """
    for name in positive:
        if (value := getattr(agent, name)) is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and above 0; found {value}")
    for name in counts:
        if (value := getattr(agent, name)) is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; found {value}")


def check_choice(agent: Agent, **allowed: Sequence[str]) -> None:
    """Check that each named parameter is one of the words allowed.

    Raises:
        ValueError: at the first that is not.
    """
    for name, words in allowed.items():
        if (value := getattr(agent, name)) not in words:
            options = ", ".join(f'"{word}"' for word in words)
            raise ValueError(f'{name} must be one of {options}; found "{value}"')


def check_within(agent: Agent, low: float, high: float, *names: str) -> None:
    """Check that some parameters are from `low` to `high`, if they are not None.

    Raises:
        ValueError: at the first that is not.
    """
    for name in names:
        if (value := getattr(agent, name)) is not None and not low <= value <= high:
            raise ValueError(f"{name} must be from {low:g} to {high:g}; found {value}")


def check_bracket(agent: Agent, low: str, high: str) -> None:
    """Check that two parameters, both None or neither, are in order.

    Raises:
        ValueError: if they are not.
    """
    below, above = getattr(agent, low), getattr(agent, high)
    if (below is None) != (above is None):
        raise ValueError(f"{low} and {high} must both be given, or neither; found {below} and {above}")
    if below is not None and below > above:
        raise ValueError(f"{low} must be at most {high}; found {below} and {above}")
