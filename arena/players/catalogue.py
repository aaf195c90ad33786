"""What a catalogue says of defenders, in words and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arena.players.defender import Defender, Memory
from arena.players.registry import name_of

REMEMBERS: dict[Memory, str] = {
    "none": "none",
    "game": "of each game",
    "account": "of each account",
    "service": "of all that was asked",
}
NOTHING = "nothing"


def described(defenders: Sequence[Defender]) -> list[dict[str, Any]]:
    """A stack's defenders as the log keeps them for pages, JSON values: of each its name, what it remembers
    and whether it is random; where it has a card, what it alters and claims, and its paper."""
    return [_described(defender) for defender in defenders]


def _described(defender: Defender) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name_of(defender),
        "memory": defender.memory,
        "random": defender.random,
    }
    if (card := defender.card) is not None:
        found |= {"alters": list(card.alters), "claims": card.claims, "paper": card.paper}
    return found


def altered(places: Sequence[str]) -> str:
    """What a defense alters, in words."""
    return ", ".join(places) or NOTHING
