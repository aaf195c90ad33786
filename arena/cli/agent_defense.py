"""What a defender's card says, and what it was measured to cost and to hold."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from arena.evaluation.clean_utility import cost_in_words
from arena.players import Defender
from arena.players.card import Card
from arena.players.catalogue import altered
from arena.players.measured import Interval, Measured, measured_alone

UNMEASURED = "not measured"


def card_of(defender: type) -> Card | None:
    """The card of a defender's class; None without one."""
    card = getattr(defender, "card", None)
    return card if isinstance(card, Card) else None


def card_as_json(defender: type) -> dict[str, Any]:
    """What a defender's card says, by the fields of `Card`; each None without a card."""
    card = card_of(defender)
    return dict.fromkeys(Card.__dataclass_fields__) if card is None else asdict(card)


def defense_as_json(defender: type, name: str) -> dict[str, Any]:
    """Its card, and its measurements with JSON values: what is not finite as a text."""
    try:
        measured = [one.values() for one in measured_alone(defender, name)]
    except ValueError as error:
        return {**card_as_json(defender), "measured": None, "measured_error": str(error)}
    return {**card_as_json(defender), "measured": measured}


def defense_in_words(defender: type[Defender], name: str) -> list[tuple[str, str]]:
    """Its card, and a line for each world that it was measured on."""
    card, found = card_of(defender), list[tuple[str, str]]()
    if card is not None:
        found = [
            ("alters", altered(card.alters)),
            ("claims", card.claims),
            ("broken by", ", ".join(card.broken_by) or "nothing that is known here"),
            ("paper", card.paper),
        ]
    try:
        found += [(f"on {one.world}", measured_in_words(one)) for one in measured_alone(defender, name)]
    except ValueError as error:
        found.append(("measured", f"cannot be read: {error}"))
    return found


def measured_in_words(one: Measured) -> str:
    """A measurement in a sentence."""
    if one.failed:
        return f"cannot be played: {one.failed}"
    parts = [
        f"clean accuracy {share(one.accuracy)} % of {one.images} images ({share(one.lost)} points lost)",
        f"ECE {100 * one.ece:.2f} % (undefended {100 * one.bare_ece:.2f})",
        f"time a query {cost_in_words(*one.time, missing='as undefended')}",
        f"prepared in {one.preparing:.3g} s",
        f"Square wins {share(one.square)} % of {one.games} games",
        f"HopSkipJump's median distance {distance(one.hop_skip_jump)}",
        *benign_in_words(one),
        f"{one.command}, at {one.commit}",
    ]
    if one.parameters:
        parts.insert(0, f"with {one.parameters}")
    return "; ".join(parts)


def benign_in_words(one: Measured) -> list[str]:
    """What benign clients lose, as at most one part of the sentence."""
    if not one.benign:
        return []
    losing = {kind: figure for kind, figure in one.benign.items() if figure[0] > 0}
    listed = ", ".join(f"{kind} {share(figure)}" for kind, figure in losing.items())
    clients = f"{one.sessions} benign clients of each kind"
    return [f"{clients} lose, in % of their queries: {listed}" if losing else f"{clients} lose nothing"]


def share(figure: Interval) -> str:
    """A share in percent, with its interval."""
    value, low, high = (100 * part for part in figure)
    return UNMEASURED if math.isnan(value) else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def distance(figure: Interval) -> str:
    """A distance with its interval."""
    value, low, high = figure
    if math.isnan(value):
        return UNMEASURED
    return f"{_far(value)} [{_far(low)}, {_far(high)}]"


def _far(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"
