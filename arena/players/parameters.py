"""The parameters of agents, as the log keeps them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from arena.players.attacker import Attacker
from arena.players.defender import Defender
from arena.players.stand_in import StandIn


def parameters(agent: Attacker | Defender, *, secrets: bool = True) -> dict[str, Any]:
    """An agent's parameters by name, agents inside as their names and parameters, for the log.

    Args:
        secrets: whether with those that a defender, or one inside it, hides from attackers.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Attacker | Defender):
            return {"agent": type(value).__name__, **parameters(value, secrets=secrets)}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return value

    hidden = () if secrets or isinstance(agent, Attacker) else agent.secrets
    if isinstance(agent, StandIn):
        own = agent.parameters
    else:
        own = {f.name: plain(getattr(agent, f.name)) for f in fields(agent) if f.init}  # type: ignore[arg-type]
    return {name: value for name, value in own.items() if name not in hidden}
