"""Figures in the sentences of an audit."""

from __future__ import annotations

from arena.league.rates import Rate
from arena.statistics import wilson


def percent(share: float) -> str:
    """A share as a whole percentage; one decimal below 10 %."""
    text = f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.1f}".removesuffix(".0")
    return f"{text} %"


def spanned(rate: Rate) -> str:
    """A share with its 95 % interval."""
    return f"{percent(rate.value)} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def exceeds(count: int, of: int, most: float) -> bool:
    """Whether so many are more than a share `most` of all, and more than one, which may be a freak."""
    return count > max(1, most * of)


def counted(count: int, of: int, what: str) -> str:
    """How many of some things, with the share and its 95 % Wilson interval."""
    share = Rate(count / of, *wilson(count, of))
    return f"{count} of {of} {what}, {spanned(share)}"
