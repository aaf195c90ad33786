"""The table of the defenders that played: what each alters, remembers, claims, and costs in these runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arena.evaluation.clean_utility import Utility
from arena.report.columns import NOTHING
from arena.report.words import cost, percent


@dataclass(frozen=True)
class Defense:
    """A row of the table; each text of a stack in lines, one a defender that has something to say.

    Attributes:
        accuracy, cost, ece: measured beside these matches, `NOTHING` where they were not.
    """

    label: str
    alters: list[str]
    remembers: list[str]
    random: str
    accuracy: str
    ece: str
    cost: str
    claims: list[str]
    papers: list[str]


def defense(label: str, facts: Mapping[str, Any], utility: Utility | None) -> Defense | None:
    """The row of a stack, by what the log keeps of it (`arena.players.catalogue.described`); None in
    logs that do not keep them."""
    members: Sequence[Mapping[str, Any]] = facts.get("catalogue") or ()
    if not members:
        return None
    lines = {
        "alters": ["" if m.get("alters") is None else ", ".join(m["alters"]) or "nothing" for m in members],
        "remembers": ["" if m["memory"] == "none" else f"by {m['memory']}" for m in members],
        "claims": [m.get("claims", "") for m in members],
        "papers": [m.get("paper", "") for m in members],
    }
    names = [str(m["name"]) for m in members]
    told = {key: _lines(names, own) or [NOTHING] for key, own in lines.items()}
    random = "yes" if any(m["random"] for m in members) else "no"
    return Defense(
        label=label,
        random=random,
        accuracy=NOTHING if utility is None else percent(utility.accuracy),
        ece=NOTHING if utility is None else percent(utility.ece, 2),
        cost=NOTHING if utility is None else cost(utility.cost_1, utility.cost_1_low, utility.cost_1_high),
        **told,
    )


def _lines(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The texts that are not empty, with the defender's name in front where there are several defenders."""
    alone = len(names) == 1
    return [text if alone else f"{name}: {text}" for name, text in zip(names, texts, strict=True) if text]
