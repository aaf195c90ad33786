"""The points that a decision-based attacker claims while it walks."""

from __future__ import annotations

from torch import Tensor

from arena.players import Asking, Games
from arena.rules.geometry import quantise
from arena.rules.threat import TOLERANCE


def stand_by(games: Games, x: Tensor, i: Tensor) -> Asking:
    """Claim the points `x` [n,C,H,W] that games `i` [n] have reached, answered adversarial.

    Under objective `submit`, points that are inside the ball as the service sees them are submitted; under
    the other objectives all are claimed.
    """
    if games.threat.objective != "submit":
        return (yield from games.claim(x, i))
    inside = games.distance(quantise(x, games.threat.quantisation), i) <= games.threat.epsilon + TOLERANCE
    inside &= games.state.open[i]
    return (yield from games.submit(x[inside], i[inside]))
