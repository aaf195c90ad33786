"""The results of several attackers against several defended classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena.messages import near
from arena.notebook.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Results(Mapping[tuple[str, str], Result]):
    """Each attacker's result against each defender, by their titles: `results["square", "snd"]`. Printed as a
    matrix by the headline verdict."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = {(result.attacker, result.defender): result for result in results}

    @property
    def attackers(self) -> list[str]:
        """The attackers' titles, in order."""
        return list(dict.fromkeys(attacker for attacker, _ in self._results))

    @property
    def defenders(self) -> list[str]:
        """The defenders' titles, in order."""
        return list(dict.fromkeys(defender for _, defender in self._results))

    def __getitem__(self, pair: tuple[str, str]) -> Result:
        if isinstance(pair, tuple) and pair in self._results:
            return self._results[pair]
        if not isinstance(pair, tuple) or len(pair) != 2:
            example = next(iter(self._results), ("square", "none"))
            raise KeyError(
                f"results go by attacker and defender, such as results{list(example)}; found {pair!r}"
            )
        attacker, defender = pair
        wrong, allowed = (
            (defender, self.defenders) if attacker in self.attackers else (attacker, self.attackers)
        )
        raise KeyError(f'there is no "{wrong}" here; {near(str(wrong), allowed)}')

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        from arena.notebook.matrix import as_text

        return as_text(self._results)

    def _repr_html_(self) -> str:
        from arena.notebook.matrix import as_html

        return as_html(self._results)

    def to_dataframe(self, what: str = "match") -> Any:
        """A pandas DataFrame (extra `tables`) with columns `attacker` and `defender`: one row a match, or all
        rows of another table, as `Result.to_dataframe` names them."""
        from arena.notebook.tables import data_frame

        return data_frame(self._results, what, named=True)

    def plot(self, what: str | None = None) -> list[Axes]:
        """Draw one chart a defender, one line an attacker; otherwise as `Result.plot`."""
        from arena.notebook.drawing import draw, new_axes

        axes = new_axes(len(self.defenders))
        for ax, defender in zip(axes, self.defenders, strict=True):
            lines = {a: self._results[a, defender] for a in self.attackers if (a, defender) in self._results}
            draw(lines, what, ax, f"against {defender}")
        return axes

    def save(self, to: str | Path) -> Path:
        """Write all of them to one `.npz` file, which `Results.load` reads; its path.

        Raises:
            ValueError: if it cannot be written.
        """
        from arena.notebook.saving import write

        return write(list(self.values()), to, "results.npz")

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """What `save`, or that of a single result, wrote.

        Raises:
            ValueError: if the file holds no results.
        """
        from arena.notebook.saving import read

        return cls(read(path, Result))

    def report(self, to: str | Path) -> Path:
        """Write the page of `arena report` on these matches, one HTML file; its path.

        Raises:
            ValueError: if it cannot be written.
        """
        from arena.notebook.keeping import write_page

        return write_page(list(self.values()), to)
