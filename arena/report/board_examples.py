"""Example games of a board's agents, as pictures from the logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from arena.league.board import Board, CellFigures, MatrixBoard
from arena.log import Log, questions
from arena.log.answers import LoggedMatch, LoggedRun
from arena.report.board_figures import worlds
from arena.report.pictures import Originals, Picture, picture

if TYPE_CHECKING:  # torch takes seconds to load
    from arena.datasets import Dataset

MOST = 60
"""The most games with pictures on a page."""
TRIED = 8
"""How many cells, and games of a cell, are looked at for one that can be shown."""
BYTES = 1_200_000
"""The most bytes of all pictures of a page together, about."""


@dataclass(frozen=True)
class Example:
    """A game that was won: of whose part it is an example, and who played."""

    world: int
    side: Literal["attacker", "defender"]
    agent: str
    attacker: str
    defender: str
    small: bool
    picture: Picture


@dataclass(frozen=True)
class Examples:
    """The games shown; `missing` says why some have no originals."""

    games: Sequence[Example] = ()
    missing: Sequence[str] = ()

    def of(self, world: int) -> list[Example]:
        """Those of a world and threat, by its place on the page."""
        return [example for example in self.games if example.world == world]


def examples(board: Board, logs: Mapping[str, Log], data_dirs: Sequence[Path]) -> Examples:
    """A game of each agent, of the largest query count of each world and threat: of an attacker the first by
    image number that it won against the first defender it won from, of a defender that it lost to the
    attacker that leaves it the least; of an image that is not shown yet, if there is one.

    Args:
        logs: by their names, those that the board was made of.
    """
    shelf = _Shelf(logs, data_dirs)
    found: list[Example] = []
    used: set[int] = set()
    room = float(BYTES)
    for world, group in enumerate(worlds(board)):
        for side, agent, cells in _wanted(group[0]):
            if len(found) >= MOST or room <= 0:
                break
            if (example := shelf.first(world, side, agent, cells, used)) is not None:
                found.append(example)
                room -= sum(len(url) for url in _urls(example.picture))
    missing = dict.fromkeys(own for own in shelf.originals.values() if isinstance(own, str))
    return Examples(found, list(missing))


def _wanted(
    matrix: MatrixBoard,
) -> Iterator[tuple[Literal["attacker", "defender"], str, list[CellFigures]]]:
    """Whose game is looked for, and in which cells, one after the other."""
    won = {pair: cell for pair, cell in matrix.cells.items() if cell.success[cell.verdict].value > 0}
    for attacker in matrix.attackers:
        yield "attacker", attacker, [won[attacker, d] for d in matrix.defenders if (attacker, d) in won]
    for defender in matrix.defenders:
        cells = [won[a, defender] for a in matrix.attackers if (a, defender) in won]
        yield "defender", defender, sorted(cells, key=lambda cell: cell.left[cell.verdict].value)


class _Shelf:
    """Where games and clean images come from, each data set loaded once."""

    def __init__(self, logs: Mapping[str, Log], data_dirs: Sequence[Path]) -> None:
        self._logs, self._dirs = logs, data_dirs
        self._runs: dict[str, dict[int, LoggedRun]] = {}
        self.originals: dict[str, Dataset | str] = {}

    def first(
        self,
        world: int,
        side: Literal["attacker", "defender"],
        agent: str,
        cells: Sequence[CellFigures],
        used: set[int],
    ) -> Example | None:
        """The first game that was won in the first cell with one, of an image that is not yet `used`."""
        for cell in cells[:TRIED]:
            facts = cell.facts[0] if cell.facts else {}
            log = self._logs.get(str(facts.get("log")))
            if log is None:
                continue
            match = questions.match(log, facts["match"])
            won = questions.samples(log, match.id, TRIED, won=True, verdict=match.info.verdict)
            if won:
                game = next((game for game in won if game.image not in used), won[0])
                used.add(game.image)
                shown = picture(log, match, game, self._original(log, facts, match))
                small = match.info.image_shape[1] < 100
                return Example(world, side, agent, cell.attacker, cell.defender, small, shown)
        return None

    def _original(self, log: Log, facts: Mapping[str, Any], match: LoggedMatch) -> Dataset | str:
        if log.name not in self._runs:
            self._runs[log.name] = {run.id: run for run in questions.runs(log)}
        run = self._runs[log.name][facts["run"]]
        return Originals(run, self._dirs, self.originals).of(match)


def _urls(picture: Picture) -> list[str]:
    return [url for url in (picture.adversarial, picture.original, picture.difference) if url]
