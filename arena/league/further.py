"""Further games where they decide a rank (`arena.league.looks`): for the defenders whose ranks are open.

In the spirit of response-graph UCB (Rowland et al. 2019). How many games a cell gets in each part is fixed
after the first look; a defender whose rank is settled gets no more of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from arena.draws import derive
from arena.league.audit.roles import control_defenders
from arena.league.board import MatrixBoard
from arena.league.cells import Cell
from arena.league.looks import LOOKS, further
from arena.league.matrices import Matrix
from arena.league.pairs import ALPHA
from arena.running.rebuilding import described, rebuild
from arena.scenario.files import Scenario
from arena.scenario.matches import Match
from arena.scenario.seeds import Seeds

FEWEST = 5
"""Games of a cell in one part, below which playing them decides nothing."""


@dataclass(frozen=True)
class Part:
    """Further games up to the next look.

    Attributes:
        games: of all parts together, as they were announced; look: which look follows, from 1.
        cells: those that are played; each: games of each.
    """

    games: int
    look: int
    cells: tuple[Cell, ...]
    each: int

    @property
    def told(self) -> dict[str, int]:
        """What the run of the part says of it in the log (`runs.resolved`)."""
        return {"games": self.games, "looks": LOOKS, "look": self.look, "each": self.each}


def next_part(matrix: Matrix, judged: MatrixBoard, games: int, look: int) -> Part | None:
    """The games before a look; None if no rank is open that they could decide.

    All attackers of the defenders whose ranks are open play them, on the same new draw of images: a worst
    case is over attackers on equal games.
    """
    is_open = open_defenders(matrix, judged)
    cells = [cell for defender in is_open for cell in matrix.against(defender) if not cell.conflicts]
    sources = [source for cell in matrix.cells.values() for source in cell.sources]
    known = [int(told["each"]) for source in sources if (told := further(source)) is not None]
    each = known[0] if known else games // LOOKS // max(1, len(cells))
    if len(is_open) < 2 or each < FEWEST or each * len(cells) > games - sum(known):
        return None
    return Part(games, look, tuple(cells), each)


def open_defenders(matrix: Matrix, judged: MatrixBoard) -> list[str]:
    """The defenders of which a test leaves open which is better; controls among each other do not matter."""
    controls = set(control_defenders(matrix))
    unsettled = [
        test for test in judged.tests if test.adjusted >= ALPHA and {test.one, test.other} - controls
    ]
    both = {name for test in unsettled for name in (test.one, test.other)}
    return [rank.agent for rank in judged.defender_ranks if rank.agent in both and not rank.withheld]


def scenario_of(part: Part, seeds: Seeds) -> Scenario:
    """The part as a scenario.

    Raises:
        ReplayError: if an agent is not here, or is another than in the log.
    """
    matches = tuple(_match(cell, number, part, seeds) for number, cell in enumerate(part.cells))
    info = part.cells[0].sources[0].run.info
    title = f"{info.title}: further games, part {part.look} of {LOOKS}"
    return Scenario(info.scenario, title, Path.cwd(), matches, further=part.told)


def _match(cell: Cell, number: int, part: Part, seeds: Seeds) -> Match:
    source = next(s for s in cell.sources if further(s) is None)
    match = rebuild(described(source.run, source.match), source.match, seeds=seeds)
    own = match.settings
    settings = own.model_copy(
        update={
            "games": part.each,
            "seed": derive(own.seed, "further", part.look),
            "utility": 0,
            "repeats": 1,
        }
    )
    return replace(match, number=number, settings=settings)
