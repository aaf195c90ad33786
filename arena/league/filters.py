"""Which matches of logs a board is asked of: by run, threat and query count."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from arena.league.cells import Source
from arena.messages import UserError, near, quoted
from arena.rules.threat import Threat, parse_epsilon

KEYS = tuple(name for name in Threat.model_fields if name not in ("budget", "resources"))
"""The rules of a threat by which matches can be chosen."""


class BoardError(UserError):
    """A board that cannot be made of what there is: one sentence on what was wrong and what there is."""


def parse_filters(words: Sequence[str], option: str = "--threat") -> dict[str, str]:
    """Of words such as "norm=linf" the values by key; of several with one key the last.

    Raises:
        BoardError: if a word is no KEY=VALUE, or the key is none of `KEYS`.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise BoardError(f"{option}: found {quoted(word)}; allowed: KEY=VALUE, such as norm=linf")
        if key not in KEYS:
            raise BoardError(f'{option}: there is no rule "{key}"; {near(key, KEYS)}')
        found[key] = value
    return found


def chosen(sources: Sequence[Source], filters: Mapping[str, str], option: str = "--threat") -> list[Source]:
    """The matches whose threats have these values.

    Raises:
        BoardError: if there is none; with the values that there are.
    """
    left = list(sources)
    for key, value in filters.items():
        kept = [source for source in left if _has(source.threat, key, value)]
        if not kept:
            there = dict.fromkeys(_text(source.threat, key) for source in left)
            raise BoardError(f'{option} {key}: no match was played with "{value}"; {near(value, there)}')
        left = kept
    return left


def check_count(sources: Sequence[Source], at: int, option: str = "--at") -> None:
    """Raises BoardError if no match reports verdicts at a query count; with the nearest that there are."""
    known = sorted({count for source in sources for count in source.counts})
    if at not in known:
        close = sorted(sorted(known, key=lambda count: abs(count - at))[:12])
        more = " are" if len(known) <= 12 else ", among others, are"
        counts = ", ".join(f"{count:,}" for count in close)
        raise BoardError(f"{option}: no match reports verdicts at {at:,} queries; there{more} {counts}")


def _has(threat: Threat, key: str, value: str) -> bool:
    if key == "epsilon":
        try:
            return math.isclose(parse_epsilon(value), threat.epsilon, rel_tol=1e-9)
        except ValueError as error:
            raise BoardError(f"--threat: {error}") from None
    return _text(threat, key) == value


def _text(threat: Threat, key: str) -> str:
    if key == "knowledge":
        return threat.known
    value = getattr(threat, key)
    if key == "epsilon":
        steps = value * 255
        whole = math.isfinite(steps) and round(steps) > 0 and abs(steps - round(steps)) < 1e-6
        return f"{round(steps)}/255" if whole and threat.norm == "linf" else f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
