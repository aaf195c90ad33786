"""The results of several attackers against several defended classifiers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena.messages import near
from arena.notebook import words
from arena.notebook.result import Result
from arena.report.words import NORMS, rules

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
        head, rows, notes = self._matrix()
        if not rows:
            return "no results"
        lines = [head, *rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([self._caption(), *text, *(f"  ! {note}" for note in notes)])

    def _repr_html_(self) -> str:
        head, rows, notes = self._matrix()
        return words.table(self._caption(), head, rows, notes) if rows else "no results"

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

    @property
    def _nearest(self) -> bool:
        return next(iter(self.values())).threat.objective == "minimum"

    def _caption(self) -> str:
        threats = [result.threat for result in self.values()]
        lowest = min(threats, key=lambda threat: threat.budget)
        what = f"median {NORMS[lowest.norm]} distance" if self._nearest else "accuracy left in percent"
        return f"{what} [95 %]; {rules(lowest, {threat.budget for threat in threats})}"

    def _matrix(self) -> tuple[list[str], list[list[str]], list[str]]:
        """The table's head, its rows, and sentences on what readers must know."""
        if not self._results:
            return [], [], []
        head = ["attacker", *(self._head(defender) for defender in self.defenders)]
        rows = [["(no attack)", *(self._clean(defender) for defender in self.defenders)]]
        for attacker in self.attackers:
            cells = [self._results.get((attacker, defender)) for defender in self.defenders]
            rows.append([attacker, *("" if cell is None else self._cell(cell) for cell in cells)])
        notes = [f"{result.name}: {text}" for result in self.values() for text in words.remarks(result)]
        return head, rows, notes

    def _first(self, defender: str) -> Result:
        return next(result for (_, own), result in self.items() if own == defender)

    def _head(self, defender: str) -> str:
        result = self._first(defender)
        if self._nearest:
            return defender
        by = "answered to vote, unranked" if words.both_ends(result) else result.headline
        return f"{defender} ({by}{'; answered' * (by == 'vote')})"

    def _clean(self, defender: str) -> str:
        """What the defended classifier gets right of the clean images: the price of the defense."""
        if self._nearest:
            return ""
        return f"{100 * self._first(defender).accuracy('vote', at=0):.1f}"

    def _cell(self, result: Result) -> str:
        if result.tells_nothing:
            return "failed"
        broken = " !" * bool(result.failed.any())
        if self._nearest:
            return words.distance(result.median_distance()) + broken
        left, low, high = result.accuracy_interval()
        answered = 100 * result.accuracy("answered")
        if math.isnan(left):
            return words.NOTHING
        if words.both_ends(result):
            return f"{answered:.1f} to {100 * left:.1f}{broken}"
        text = f"{100 * left:.1f} [{100 * low:.0f}, {100 * high:.0f}]"
        beside = "" if result.headline == "answered" else f"; {answered:.1f}"
        return text + beside + broken
