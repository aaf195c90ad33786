"""What agents import: the two interfaces that they implement, and the types used in them."""

from arena.players.attacker import Attacker, Needs, relay
from arena.players.defender import Defender, Inner, Rows, Splits
from arena.players.response import Response
from arena.players.seat import Games, Resources
from arena.progress import tell
from arena.rules.losses import Loss, margin
from arena.rules.moves import (
    Answers,
    Asking,
    Claim,
    Consult,
    Move,
    Note,
    Play,
    Resign,
    Submit,
    Volley,
    VolleyError,
)
from arena.rules.threat import Threat

__all__ = [
    "Answers",
    "Asking",
    "Attacker",
    "Claim",
    "Consult",
    "Defender",
    "Games",
    "Inner",
    "Loss",
    "Move",
    "Needs",
    "Note",
    "Play",
    "Resign",
    "Resources",
    "Response",
    "Rows",
    "Splits",
    "Submit",
    "Threat",
    "Volley",
    "VolleyError",
    "margin",
    "relay",
    "tell",
]
