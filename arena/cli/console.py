"""What all commands print, and how."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from arena.progress import Work

out = Console()
err = Console(stderr=True)

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


class CommandError(Exception):
    """A command that cannot be carried out: one sentence on what was wrong and what is allowed."""


def say(text: str) -> None:
    """One line on the terminal, as it is."""
    out.print(text, highlight=False, soft_wrap=True, markup=False)


class Remarks:
    """Prints what a user should know at once, and says nothing of work."""

    def working(self, work: Work | None) -> None:
        """Hear of work, and say nothing."""

    def remark(self, sentence: str) -> None:
        """Print a remark above whatever is shown."""
        err.print(f"[yellow]remark:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
