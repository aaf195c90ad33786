"""How often the ranks of a log are looked at, where further games were played until they were settled.

The looks are fixed beforehand: one before any further game, and one after each of `LOOKS` equal parts of the
games. Each look tests at its share of the level (all shares equal; a union bound, as coarse alpha spending as
there is, needs nothing of how the tests depend on each other), so that over all looks together no rank is
settled wrongly with more than the level's probability, whenever one stops. A board of a log with further
games judges by that share for good (on spending: Lan and DeMets 1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arena.league.cells import Source
from arena.messages import UserError

LOOKS = 4
"""Parts in which further games are played."""


class SpendingError(UserError):
    """Further games cannot be played: one sentence."""


def looks_of(sources: Sequence[Source]) -> int:
    """At how many looks the ranks of these matches are tested: 1 without further games."""
    return 1 + max((int(told["looks"]) for s in sources if (told := further(s)) is not None), default=0)


def further(source: Source) -> dict[str, Any] | None:
    """What a match says of the further games that it is of; None for one of the first games."""
    told = source.run.info.resolved.get("further")
    return told if isinstance(told, dict) else None


def up_to(sources: Sequence[Source], look: int) -> list[Source]:
    """The matches that a look sees."""
    return [s for s in sources if (told := further(s)) is None or int(told["look"]) <= look]


def looks_done(sources: Sequence[Source], games: int) -> int:
    """How many parts of so many further games are played to their ends.

    Raises:
        SpendingError: if further games of another number were played: their looks are spent.
    """
    done: dict[int, bool] = {}
    for source in sources:
        if (told := further(source)) is None:
            continue
        if told["games"] != games:
            raise SpendingError(
                f"log {source.log} holds {told['games']:,} further games, whose looks were fixed with that "
                f"number: --spend {told['games']} goes on with them, a new log begins anew"
            )
        look = int(told["look"])
        done[look] = done.get(look, True) and source.run.ended is not None
    return sum(done.values())
