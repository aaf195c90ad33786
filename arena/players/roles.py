"""What the sides of a match are to others, as the log keeps it for the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arena.players.attacker import Attacker
from arena.players.defender import Defender
from arena.players.parameters import parameters
from arena.players.registry import name_of
from arena.players.stand_in import StandIn


def roles(attacker: Attacker, defenders: Sequence[Defender]) -> dict[str, Any]:
    """Whether an attacker and a stack are controls, the attacker's plain twin by the name and parameters that
    its own matches log, and the least feedback it needs; JSON values, but for parameters that are none.

    There is no `twin` of an attacker whose code is not imported here: it is not known.
    """
    found: dict[str, Any] = {
        "feedback": attacker.needs.feedback,
        "controls": {"attacker": is_control(attacker), "defender": is_control(defenders)},
    }
    if not isinstance(attacker, StandIn):
        twin = attacker.twin
        found["twin"] = twin and {"attacker": name_of(twin), "params": parameters(twin)}
    return found


def is_control(agent: Any) -> bool:
    """Whether an attacker, or all of a stack of defenders, are there for comparison alone."""
    return all(one.control for one in (agent if isinstance(agent, Sequence) else (agent,)))
