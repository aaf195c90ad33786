"""Warnings at the line of whoever called the arena."""

from __future__ import annotations

import sys
import warnings

_OWN = ("arena", "contextlib")


def warn_caller(text: str) -> None:
    """Warn at the innermost line that is neither the arena's nor its decorators'."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _OWN:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)
