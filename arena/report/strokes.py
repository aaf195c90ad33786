"""The lines of charts: colours, dashes, and when their axis is logarithmic."""

from __future__ import annotations

COLOURS = 7
"""Colours of the page's palette, `--c0` and on; further lines repeat them with other dashes."""
DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)))
LONG = 1000
"""Budgets beyond this are drawn on a logarithmic axis."""
