"""The result of a match played from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena.records.match_record import MatchRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Result(MatchRecord):
    """A played match: printed in a few lines, in a notebook as a table. Its attributes, and the numbers that
    it answers, are those of a `MatchRecord`.

    By default every number is by the headline verdict: `answered` where the same image always gets the same
    answer, else `vote`, since a single wrong answer may be luck (docs/design.md, D3).
    """

    def __repr__(self) -> str:
        from arena.notebook.words import as_text  # with the report's words come all of its libraries

        return as_text(self)

    def _repr_html_(self) -> str:
        from arena.notebook.words import as_html

        return as_html(self)

    @property
    def name(self) -> str:
        """Who played against what."""
        return f"{self.attacker} against {self.defender}"

    def to_dataframe(self, what: str = "games") -> Any:
        """A pandas DataFrame (extra `tables`).

        Args:
            what: "games": one row a game; "marks": one row a game and reported query count; "curve": the
                accuracy left by each verdict at each reported count, with intervals; "queries": one row a
                charged query, if `keep_rows` was set; "match": one row of the numbers that `print` shows.

        Raises:
            ValueError: if there is no such table, or no queries were kept for it.
            ImportError: if pandas is not installed.
        """
        from arena.notebook.tables import data_frame

        return data_frame({(self.attacker, self.defender): self}, what, named=False)

    def plot(self, what: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the accuracy left against queries, by the headline verdict at the reported counts, with 95 %
        intervals, and `answered` as a thin line where that is not the headline.

        Args:
            what: "accuracy", or "distance": the median distance; None: the distance under objective
                `minimum`, else the accuracy.
            ax: where to draw; None: in a new figure.

        Raises:
            ValueError: if there is no such plot.
        """
        from arena.notebook.drawing import draw

        return draw({self.attacker: self}, what, ax, f"against {self.defender}")

    def save(self, to: str | Path) -> Path:
        """Write all of it to an `.npz` file (a folder that is there gets one), which `Result.load` reads;
        its path.

        Raises:
            ValueError: if it cannot be written.
        """
        from arena.notebook.saving import write

        return write([self], to, f"{self.name.replace(' ', '-').replace('/', '-')}.npz")

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """What `save` wrote.

        Raises:
            ValueError: if the file holds no result, or several.
        """
        from arena.notebook.saving import read

        found = read(path, cls)
        if len(found) != 1:
            raise ValueError(f"{path} holds {len(found)} results; arena.Results.load reads them")
        return found[0]

    def report(self, to: str | Path) -> Path:
        """Write the page of `arena report` on this match, one HTML file; its path.

        Raises:
            ValueError: if it cannot be written.
        """
        from arena.notebook.keeping import write_page

        return write_page([self], to)
