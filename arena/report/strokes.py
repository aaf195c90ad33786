"""How charts draw their lines, whichever way they are made."""

from __future__ import annotations

COLOURS = 7
"""Colours of the page's palette, `--c0` and on; further lines repeat them with other dashes."""
DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)))
LONG = 1000
"""Budgets beyond this are drawn on a logarithmic axis."""
