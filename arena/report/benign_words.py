"""Benign traffic in words and figures, for tables and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from arena.evaluation.benign.history import History
from arena.evaluation.benign.losses import BenignLoss, What
from arena.league.rates import Rate
from arena.report.columns import NOTHING
from arena.report.words import percent

HOW = "benign = 20"
"""The line of a scenario that has benign traffic played."""
_SENT = {
    "benign": "of other benign clients",
    "attacker": "of an attacker around other images",
    "poison": "near copies of their images",
}


def after(history: str) -> str:
    """What came before, in words."""
    read = History.read(history)
    return f"{read.queries:,} {_SENT[read.kind]}" if read.queries else "nothing"


def share(loss: BenignLoss, what: What) -> Rate:
    return Rate(*loss.share(what))


def of_sessions(loss: BenignLoss, what: What) -> Rate:
    return Rate(*loss.share_of_sessions(what))


def delay(loss: BenignLoss) -> str:
    """Milliseconds that a query takes longer, with its interval; NOTHING where that is noise."""
    if math.isnan(loss.delay):
        return NOTHING
    return " ".join((_ms(loss.delay), f"[{_ms(loss.delay_low)}, {_ms(loss.delay_high)}]"))


def by_place(losses: Sequence[BenignLoss]) -> Mapping[str, Mapping[str, BenignLoss]]:
    """By history, by client."""
    found: dict[str, dict[str, BenignLoss]] = {}
    for loss in losses:
        found.setdefault(loss.history, {})[loss.client] = loss
    return found


def clients_of(losses: Sequence[Sequence[BenignLoss]]) -> list[str]:
    """The kinds of clients in some losses, as they first come."""
    return list(dict.fromkeys(loss.client for own in losses for loss in own))


def lost(loss: BenignLoss | None) -> str:
    """The share of the queries that is lost, in percent."""
    return NOTHING if loss is None else percent(loss.share("lost")[0])


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2g}"
