"""What all commands print, and how."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from arena.messages import UserError, harmless
from arena.progress import Work


class OutputLost(Exception):
    """What a command says cannot be written, as to a file on a full disk; the message is the reason."""


@contextmanager
def writing() -> Iterator[None]:
    """An error of writing to the standard output within is an `OutputLost`; a closed pipe stays itself."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:  # or Python tries again as it ends
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise OutputLost(error.strerror) from error


class Terminal(Console):
    """A console on which no text of a file, a log or an agent can control the terminal."""

    def __exit__(self, *raised: Any) -> None:
        """All that is printed or shown is written here: to the standard output as in `writing`. The standard
        error's own errors end nothing; nowhere is left to say them."""
        with suppress(OSError) if self.stderr else writing():
            super().__exit__(*raised)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(harmless(text), **options)


out = Terminal()
err = Terminal(stderr=True)

FAILED = 3
"""The exit status of a run that was played, but in which agents failed."""


class CommandError(UserError):
    """A command that cannot be carried out: one sentence on what was wrong and what is allowed."""


def say_json(value: Any) -> None:
    """JSON for programs. It has no NaN (null here), and no infinity (a text)."""
    with writing():
        print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


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
