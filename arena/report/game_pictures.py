"""A replayed game as a picture, and as an animation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from arena.messages import one_line
from arena.report.game_terminal import shown_at
from arena.report.game_words import flips, judged, outcome, title
from arena.report.pictures import amplification
from arena.report.words import NORMS
from arena.running.filming import Film, Pixels

STILLS = ("png", "svg", "pdf")
MOVING = ("gif", "mp4")
SHOWN = 7
"""So many images are beside each other in a picture, the difference among them."""
FRAMES, RATE = 80, 8
"""An animation has so many frames at most, and so many a second."""
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "arena", "font.size": 9, "axes.spines.top": False}
_PALETTE = "tab10"


def can_write(path: Path) -> str | None:
    """Why an animation of that name cannot be written here; None if it can."""
    if path.suffix == ".mp4" and shutil.which("ffmpeg") is None:
        return "an mp4 needs the program ffmpeg, which is not here; name a .gif"
    return None


def draw_game(film: Film, to: Path) -> None:
    """Write a game as a picture: images over time, loss and distance against queries, purposes, refusals.

    Raises:
        OSError: if it cannot be written.
    """
    with _styled():
        figure = _figure(9.0, 7.2)
        shown = shown_at(film, SHOWN - 1)
        grid = figure.add_gridspec(4, len(shown) + 1, height_ratios=[1.4, 1.4, 1.4, 0.5])
        for place, (caption, image) in enumerate(shown):
            _show(figure.add_subplot(grid[0, place]), image, caption)
        _difference(figure.add_subplot(grid[0, len(shown)]), film, film.game.final)
        loss = figure.add_subplot(grid[1, :])
        distance = figure.add_subplot(grid[2, :], sharex=loss)
        _losses(loss, film)
        _curve(distance, film, film.distance, f"{NORMS[film.match.info.threat.norm]} distance")
        _ball(distance, film)
        loss.axhline(0, color="grey", linewidth=0.7, linestyle=":")
        _told(loss, film)
        _purposes(figure.add_subplot(grid[3, :], sharex=loss), film)
        _dress(figure, film, judged(film)[0])
        figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)


def animate_game(film: Film, to: Path) -> None:
    """Write a game as an animation: the image that is sent, what was changed, loss and distance so far.

    Raises:
        OSError: if it cannot be written.
    """
    assert film.images is not None
    with _styled():
        figure = _figure(8.0, 4.4)
        grid = figure.add_gridspec(2, 3, width_ratios=[1, 1, 1.8])
        first, other = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[:, 1])
        loss, distance = figure.add_subplot(grid[0, 2]), figure.add_subplot(grid[1, 2])
        _losses(loss, film)
        _curve(distance, film, film.distance, f"{NORMS[film.match.info.threat.norm]} distance")
        _ball(distance, film)
        _told(loss, film)
        sent, changed = _show(first, film.images[0], ""), _difference(other, film, film.images[-1])
        lines = [axes.axvline(0, color="red", linewidth=1) for axes in (loss, distance)]
        places = np.unique(
            np.linspace(0, len(film.images) - 1, min(FRAMES, len(film.images))).round().astype(int)
        )
        factor = _factor(film, film.images[-1])
        _dress(figure, film, "")

        def frame(place: int) -> list[Any]:
            turn, image = int(film.at[place]), film.images[place] if film.images is not None else None
            assert image is not None
            row = int(np.searchsorted(film.rows.turn, turn))
            said = film.rows.purpose[row] if row < len(film.rows) else ""
            first.set_title(f"query {turn:,}\n{_plain(said)[:24]}", fontsize=9)
            sent.set_data(_displayed(image))
            if film.clean is not None:
                changed.set_data(_displayed(0.5 + factor * (image - film.clean)))
            for line in lines:
                line.set_xdata([turn, turn])
            return [sent, changed, *lines]

        figure.canvas.draw()
        figure.set_layout_engine("none")  # laying out takes longer than drawing, and nothing moves
        moving = FuncAnimation(figure, frame, frames=places.tolist(), blit=False)
        writer = FFMpegWriter(fps=RATE) if to.suffix == ".mp4" else PillowWriter(fps=RATE)
        moving.save(to, writer=writer, dpi=100)


@contextmanager
def _styled() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE):
        yield


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


def _dress(figure: Figure, film: Film, said: str) -> None:
    lines = [title(film), outcome(film), *([said] if said else [])]
    figure.suptitle("\n".join(_wrapped(line) for line in lines), fontsize=8, ha="left", x=0.01)


def _wrapped(line: str, width: int = 130) -> str:
    words, lines = _plain(line).split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return one_line(text).replace("$", r"\$")


def _displayed(image: Pixels) -> Any:
    shown = np.clip(image, 0, 1)
    if len(shown) == 3:
        return shown.transpose(1, 2, 0)
    return np.repeat(shown.mean(axis=0)[..., None], 3, axis=2)


def _show(axes: Axes, image: Pixels, caption: str) -> AxesImage:
    axes.set_axis_off()
    axes.set_title(caption, fontsize=9)
    return axes.imshow(_displayed(image), interpolation="nearest")


def _factor(film: Film, image: Pixels) -> int:
    return 1 if film.clean is None else amplification(image - film.clean)


def _difference(axes: Axes, film: Film, image: Pixels) -> AxesImage:
    """What was changed, amplified around grey."""
    if film.clean is None:
        return _show(axes, np.full_like(image, 0.5), "difference\n(not played again)")
    factor = _factor(film, image)
    return _show(axes, 0.5 + factor * (image - film.clean), f"difference x{factor}")


def _losses(axes: Axes, film: Film) -> None:
    """The defended margin, and behind it the undefended one where a monitor watched the game."""
    base = film.rows.margin_base
    if (shown := np.isfinite(base)).any():
        axes.plot(film.rows.turn[shown], base[shown], color="tab:grey", linewidth=0.8, label="undefended")
        axes.legend(fontsize=8, loc="upper right", frameon=False)
    _curve(axes, film, film.rows.margin, "loss (margin)")


def _curve(axes: Axes, film: Film, values: Any, name: str) -> None:
    rows = film.rows
    axes.plot(
        rows.turn,
        np.where(np.isfinite(values), values, np.nan),
        linewidth=1,
        marker="." if len(rows) < 60 else "",
    )
    for told, marker, colour in (
        (rows.hit, "o", "tab:green"),
        (rows.refused, "x", "tab:red"),
        (rows.flagged, "|", "tab:orange"),
    ):
        axes.plot(rows.turn[told], values[told], marker, color=colour, markersize=5, markerfacecolor="none")
    axes.set_ylabel(name)
    axes.spines["right"].set_visible(False)
    axes.set_xlim(0, max(1, int(rows.turn.max(initial=1))) + 1)


def _ball(axes: Axes, film: Film) -> None:
    epsilon = film.match.info.threat.epsilon
    if np.isfinite(epsilon):
        axes.axhline(epsilon, color="grey", linewidth=0.7, linestyle=":")
    axes.set_xlabel("queries")


def _told(axes: Axes, film: Film) -> None:
    """What the marks mean, of those that are there, and where the answered label changed."""
    for turn, _, _ in flips(film):
        axes.axvline(turn, color="tab:purple", linewidth=0.5, alpha=0.5)
    told = [
        ("o hit", film.rows.hit.any()),
        ("x refused", film.rows.refused.any()),
        ("| flagged", film.rows.flagged.any()),
        ("purple line: another label than before", bool(flips(film))),
    ]
    axes.set_title(" · ".join(name for name, there in told if there), fontsize=8, loc="right")


def _purposes(axes: Axes, film: Film) -> None:
    """A strip for each purpose."""
    named = np.array(film.rows.purpose, dtype=object)
    found = list(dict.fromkeys(film.rows.purpose))
    colours = matplotlib.colormaps[_PALETTE]
    for place, purpose in enumerate(found):
        turns = film.rows.turn[named == purpose]
        axes.plot(turns, np.full(len(turns), place), "|", color=colours(place % 10), markersize=8)
    axes.set_yticks(range(len(found)), [_plain(purpose)[:24] or "(none said)" for purpose in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("queries, by purpose")
