"""Words for people who made a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(word: str, allowed: Iterable[str]) -> str:
    """What is allowed in place of `word`, and what was perhaps meant."""
    options = sorted(allowed)
    match = difflib.get_close_matches(word, options, n=1)
    meant = f'did you mean "{match[0]}"? ' if match else ""
    return f"{meant}allowed: {', '.join(options) or 'nothing'}"
