"""What the outcome of games is evidence of: rules that results from Python and pages share.

They decide nothing that is played, and so do not stand beside the rules that do (docs/design.md, D7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arena.rules.outcome import HANDED_IN, Bools, Floats, Ints, Reason
from arena.rules.threat import Threat

STRAY = 0.5
"""From this share on, wrong answers outside the ball are told."""


def distance_by(verdict: str, distance: Floats, lost: Floats | Bools) -> Floats:
    """The games' distances [n] where they win by a verdict, else infinite. A final image loses its vote when
    at most half of its fresh answers are wrong (docs/design.md, D3)."""
    return distance if verdict == "answered" else np.where(lost > 0.5, distance, np.inf)


def lost_early(reason: Sequence[Reason], queries: Ints, vote: Floats, budget: int) -> Bools:
    """[n] whether the attacker ended the game with queries left although the final image loses its vote."""
    own = np.array([why in HANDED_IN for why in reason], np.bool_)
    return np.asarray(own & (queries < budget) & (vote <= 0.5))


def misses_ball(threat: Threat, outside: int, wrong: int, hit: float) -> bool:
    """Whether an attack seems to miss the ball. Attacks on labels walk in from outside by nature: there only
    where none of them arrived.

    Args:
        outside, wrong: how many wrong answers lay outside the ball, and how many there were.
        hit: the share of games played in which a hit was answered.
    """
    if threat.objective == "minimum" or not outside or outside < STRAY * wrong:
        return False
    return hit < 0.5 if threat.feedback != "label" else hit < 1e-9
