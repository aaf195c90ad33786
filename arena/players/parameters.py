"""The parameters of agents, as the log keeps them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from arena.players.attacker import Attacker
from arena.players.defender import Defender
from arena.players.stand_in import StandIn


def parameters(agent: Attacker | Defender) -> dict[str, Any]:
    """An agent's parameters by name, agents inside as their names and parameters, for the log."""

    if isinstance(agent, StandIn):
        return agent.parameters

    def plain(value: Any) -> Any:
        if isinstance(value, Attacker | Defender):
            return {"agent": type(value).__name__, **parameters(value)}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return value

    return {f.name: plain(getattr(agent, f.name)) for f in fields(agent) if f.init}  # type: ignore[arg-type]
