"""What a match may take besides queries (docs/scenarios.md, "Limits")."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LONGEST_WORD = 100
"""Characters of a purpose or of a note's key."""
LONGEST_VALUE = 1000
"""Characters of a note's text."""
PURPOSES = 100
"""Different purposes that an attacker may name in a shard."""


class Limits(BaseModel):
    """What a match may take in a shard, besides queries. An attacker that meets one ends its games with
    `error`; a defender that meets one, too. None: no limit.

    Attributes:
        notes: a game may leave so many; the log keeps no more of them.
        moves: an attacker may make so many without a query, all games together; consults are not counted.
        seconds: an attacker may take so long to make a move, a defended classifier to answer a volley. They
            are told when they are over. Where this ends a game depends on the machine.
        memory: MiB that the process may grow by while a shard is played.
        output: bytes that an agent in a process of its own may print in a shard; they are shown to nobody.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    notes: Annotated[int, Field(strict=True, ge=0, le=10**9)] = 1000
    moves: Annotated[int, Field(strict=True, ge=1, le=10**12)] | None = 1_000_000
    seconds: Annotated[float, Field(strict=True, gt=0, le=10**9)] | None = None
    memory: Annotated[float, Field(strict=True, gt=0, le=10**9)] | None = None
    output: Annotated[int, Field(strict=True, ge=0, le=10**12)] = 2**20


USUAL = Limits()
"""Where a scenario says nothing."""
