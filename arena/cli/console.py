"""What all commands print, and how."""

from __future__ import annotations

from rich.console import Console

out = Console()
err = Console(stderr=True)

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class CommandError(Exception):
    """A command that cannot be carried out: one sentence on what was wrong and what is allowed."""


def say(text: str) -> None:
    """One line on the terminal, as it is."""
    out.print(text, highlight=False, soft_wrap=True, markup=False)
