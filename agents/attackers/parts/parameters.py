"""Checks of attackers' parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from arena.players import Attacker


def check_parameters(agent: Attacker, *, positive: Sequence[str] = (), counts: Sequence[str] = ()) -> None:
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
