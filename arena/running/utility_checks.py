"""What a log says a defended classifier is worth on clean images, measured again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import select

from arena.evaluation.clean_images import Evaluation
from arena.evaluation.clean_utility import Utility
from arena.game.blame import DefenderError
from arena.log import Log, schema
from arena.log.questions import ask
from arena.log.rows import utility_of
from arena.running.replaying import LoggedPlay

FIGURES = ("accuracy", "low", "high", "declined", "refused", "flagged", "agreement", "ece", "ece_mass", "nll")
"""What two measurements of one machine have in common, bit for bit."""
LATER = ("input_l2",)
"""The same, where the log is not of a layout that does not tell."""
SHARES = ("accuracy", "declined", "refused", "agreement")
"""And of two kinds of machines as far as the intervals say."""


def check_utility(log: Log, play: LoggedPlay) -> tuple[int, list[str]]:
    """Evaluate a match's defended classifier again; how often, and sentences on figures that are others.

    Where the same bits are not promised, shares may differ by as much as the logged interval is wide.
    """
    faults: list[str] = []
    rows = ask(log, select(schema.utilities).filter_by(match_id=play.logged.id))
    for row in rows:
        logged = utility_of(row)
        split, seed = play.world.dataset.games, play.match.settings.seed
        if not 0 < logged.images <= len(split):
            faults.append(
                f"{_where(play)}: an evaluation on {logged.images:,} images; there are {len(split):,}"
            )
            continue
        evaluation = Evaluation(play.world.classifier, split, seed=seed, images=logged.images)
        try:
            here = evaluation.of(play.prepared.stack, cost=False)
        except DefenderError as error:
            faults.append(f"{_where(play)}: its evaluation fails: {error}")
            continue
        faults += [
            f"{_where(play)}: {name} on clean images is {_told(logged, here, name)}"
            for name in _others(logged, here, play.same)
        ]
    return len(rows), faults


def _others(logged: Utility, here: Utility, same: bool) -> Sequence[str]:
    """The figures that differ; the bins among them where the log has them."""
    if same:
        told = [*FIGURES, *(name for name in LATER if not math.isnan(getattr(logged, name)))]
        bins = ["reliability"] * (logged.reliability is not None and logged.reliability != here.reliability)
        return [*(name for name in told if not _equal(getattr(logged, name), getattr(here, name))), *bins]
    wide = max(here.high - here.low, 0.0)
    return [name for name in SHARES if not abs(getattr(logged, name) - getattr(here, name)) <= wide]


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _told(logged: Utility, here: Utility, name: str) -> str:
    if name == "reliability":
        return "in its bins not the same in the log and here"
    return f"{getattr(logged, name):.6g} in the log, {getattr(here, name):.6g} here"


def _where(play: LoggedPlay) -> str:
    return f"match {play.logged.id}, {play.match.name}"
