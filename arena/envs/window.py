"""A window that shows a game while it is played, by matplotlib."""

from __future__ import annotations

import warnings
from typing import Any

from arena.envs.frames import Frame

_DPI = 100


class Window:
    """Opens with the first picture, `fps` of which are shown a second at most.

    Where matplotlib has no display to draw on, it warns once and shows nothing.
    """

    def __init__(self, fps: float) -> None:
        self.pause = 1 / fps
        self._figure: Any = None
        self._picture: Any = None
        self._blind = False

    def show(self, frame: Frame) -> None:
        """Draw a picture [h,w,3], and wait until the next is due."""
        if self._blind:
            return
        from matplotlib import pyplot

        if self._figure is None:
            height, width = frame.shape[:2]
            self._figure = pyplot.figure("arena/BlackBox-v0", figsize=(width / _DPI, height / _DPI), dpi=_DPI)
            if not has_display(self._figure):
                self._blind = True
                self.close()
                warnings.warn(
                    'render_mode="human" shows nothing: matplotlib finds no display here (its backend is '
                    f'{pyplot.get_backend()}); render_mode="rgb_array" gives pictures without one',
                    stacklevel=2,
                )
                return
            axes = self._figure.add_axes((0, 0, 1, 1))
            axes.axis("off")
            self._picture = axes.imshow(frame)
        self._picture.set_data(frame)
        pyplot.pause(self.pause)

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._figure is not None:
            from matplotlib import pyplot

            pyplot.close(self._figure)
            self._figure = self._picture = None


def has_display(figure: Any) -> bool:
    """Whether a figure of matplotlib is drawn in a window."""
    return figure.canvas.required_interactive_framework is not None
