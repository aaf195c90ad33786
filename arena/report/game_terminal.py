"""A replayed game on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from arena.report.game_words import binned, flips_in_words, judged, outcome, purposes, title
from arena.report.terminal import wide_enough
from arena.report.words import NORMS, number
from arena.running.filming import Film, Pixels

BARS = "▁▂▃▄▅▆▇█"
SPARKS = 60
"""Columns of a line of bars, at most."""
STRIP = 6
"""So many images are shown, evenly over the game, at most."""
TALLEST = 24
"""Rows of pixels that an image on the terminal has at most; two are one line of it."""
LOWEST = 16
"""And images of fewer are enlarged to about so many."""
MOST_NOTES = 6


def print_game(console: Console, film: Film) -> bool:
    """Print a game: how it went, and last whether it is as the log says; returns that."""
    console = wide_enough(console)
    _line(console, f"[bold]{escape(title(film))}[/]")
    _line(console, escape(outcome(film)))
    if (strip := _strip(console, film)) is not None:
        console.print(strip)
    if len(film.rows):
        for spark in _sparks(film, max(10, min(SPARKS, console.width - 50))):
            console.print(spark, soft_wrap=True)
        _line(console, escape(flips_in_words(film)))
        console.print(_purposes(film))
    for note in film.notes[:MOST_NOTES]:
        _line(console, escape(f"note at {note.turn:,}: {note.key} = {_short(note.value)}"))
    if len(film.notes) > MOST_NOTES:
        _line(console, f"... and {len(film.notes) - MOST_NOTES:,} notes more")
    said, confirmed = judged(film)
    colour = "green" if confirmed else "yellow" if film.checked is None else "red"
    _line(console, f"[{colour}]{escape(said)}[/]")
    return confirmed


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _short(value: str | float) -> str:
    text = value if isinstance(value, str) else number(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _sparks(film: Film, width: int) -> list[Text]:
    """Loss and distance against queries, in bars, and the hardened classifier's own loss if it was asked."""
    found = []
    for name, values in (
        ("loss", film.rows.margin),
        ("base", film.rows.margin_base),
        (f"{NORMS[film.match.info.threat.norm]}", film.distance),
    ):
        bars, finite = binned(film, values, width), values[np.isfinite(values)]
        if not len(finite):
            continue
        line = Text(f"{name:<8}")
        line.append(spark(bars), style="cyan")
        line.append(f"  from {number(finite[0])} to {number(finite[-1])}, least {number(finite.min())}")
        found.append(line)
    last = int(film.rows.turn.max(initial=0))
    found.append(Text(f"{'':<8}queries 1 to {last:,}", style="dim"))
    return found


def spark(values: NDArray[np.float64], ends: tuple[float, float] | None = None) -> str:
    """A bar a value, the lowest for the least, or for the lower one of `ends`; a blank for NaN."""
    finite = values[np.isfinite(values)]
    low, high = ends or ((float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0))
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if np.isnan(v) else BARS[round((v - low) * scale)] for v in values.tolist())


def _purposes(film: Film) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("purpose", justify="left")
    for head in ("queries", "turns", "refused", "flagged", "hits"):
        table.add_column(head, justify="right")
    for line in purposes(film):
        turns = f"{line.first:,}-{line.last:,}"
        counts = [f"{count:,}" for count in (line.refused, line.flagged, line.hits)]
        table.add_row(escape(line.purpose) or "(none said)", f"{line.queries:,}", turns, *counts)
    return table


def shown_at(film: Film, most: int) -> list[tuple[str, Pixels]]:
    """At most `most` images with captions: the clean one, some that were sent, and the final one."""
    found: list[tuple[str, Pixels]] = [] if film.clean is None else [("clean", film.clean)]
    if film.images is not None and most > 2:
        wanted = np.linspace(0, len(film.images) - 1, min(most - 2, len(film.images)))
        places = dict.fromkeys(wanted.round().astype(int).tolist())
        found += [(f"query {int(film.at[place]):,}", film.images[place]) for place in places]
    return [*found, ("final", film.game.final)]


def _strip(console: Console, film: Film) -> Table | None:
    """Images side by side, where the terminal has the colours."""
    if console.color_system not in ("truecolor", "256"):
        return None
    channels, height, width = film.game.final.shape
    if channels not in (1, 3):
        return None
    rows = min(TALLEST, height * (1 + LOWEST // height)) if height < LOWEST else min(TALLEST, height)
    columns = max(1, round(width * rows / height))
    most = max(2, min(STRIP, console.width // (columns + 2)))
    shown = shown_at(film, most)
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in shown:
        table.add_column(justify="left", no_wrap=True)
    table.add_row(*[Text(caption[:columns], style="dim") for caption, _ in shown])
    table.add_row(*[blocks(image, rows, columns) for _, image in shown])
    return table


def blocks(image: Pixels, rows: int, columns: int) -> Text:
    """An image [C,H,W] in [0,1], C 1 or 3, of half blocks: two rows of pixels a line."""
    rows += rows % 2
    grey_or_rgb = (np.clip(image, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    picture = Image.fromarray(np.repeat(grey_or_rgb, 3, axis=2) if grey_or_rgb.shape[2] == 1 else grey_or_rgb)
    pixels = np.asarray(picture.resize((columns, rows), _resampling(image, rows)))
    text = Text()
    for row in range(0, rows, 2):
        for column in range(columns):
            text.append("▀", style=f"{_rgb(pixels[row, column])} on {_rgb(pixels[row + 1, column])}")
        text.append("\n")
    return text


def _resampling(image: Pixels, rows: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if rows > image.shape[1] else Image.Resampling.BOX


def _rgb(pixel: Sequence[int]) -> str:
    return f"#{int(pixel[0]):02x}{int(pixel[1]):02x}{int(pixel[2]):02x}"
