"""Templates of pages, and how a page becomes a file."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from arena.inputs.places import unwritable
from arena.league.labels import flat
from arena.report import words
from arena.report.columns import NOTHING
from arena.report.strokes import COLOURS


def environment(filters: dict[str, Any]) -> Environment:
    """Finds the templates beside this file, and writes no text into a page that could be markup."""
    found = Environment(
        loader=PackageLoader("arena.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": words.percent,
        "number": words.number,
        "flat": lambda value: list(flat(value)),
        **filters,
    }
    found.globals |= {"NORMS": words.NORMS, "NOTHING": NOTHING, "COLOURS": COLOURS, "INFINITY": math.inf}
    return found


def write_page(page: str, to: Path, what: str) -> None:
    """Write a page, `what` it is in words.

    Raises:
        ValueError: if the file cannot be written.
    """
    try:
        if (why := unwritable(to)) is not None:
            raise OSError(errno.EINVAL, f"it {why}")
        to.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the {what} cannot be written to {to}: {error.strerror}") from error
