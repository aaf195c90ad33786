"""The indicators of a failed attack that a log alone can show, over all of its matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from arena.league.audit.alarms import BEFORE_ALARM
from arena.league.audit.controls import BEATS_NOISE, BEATS_WEAK, NOISE_FOOLS
from arena.league.audit.duplicates import DUPLICATES
from arena.league.audit.epsilon import FALLS_WITH_EPSILON
from arena.league.audit.failed import FAILED_GAMES
from arena.league.audit.false_alarms import FALSE_ALARMS
from arena.league.audit.not_facts import NOT_FACTS
from arena.league.audit.outside import OUTSIDE_BALL
from arena.league.audit.power import TOO_FEW_GAMES
from arena.league.audit.said import Indicator, Subject
from arena.league.audit.silent import SILENT_SUCCESS
from arena.league.audit.still_improving import STILL_IMPROVING
from arena.league.audit.stopped_early import STOPPED_EARLY
from arena.league.audit.twins import BELOW_TWIN
from arena.league.audit.unstable import UNSTABLE_VOTES
from arena.league.board import Finding
from arena.league.cells import Source
from arena.league.matrices import Matrix, matrices
from arena.log.schema import to_json

INDICATORS: tuple[Indicator, ...] = (
    FAILED_GAMES,
    NOT_FACTS,
    OUTSIDE_BALL,
    STOPPED_EARLY,
    BELOW_TWIN,
    BEATS_NOISE,
    BEATS_WEAK,
    FALLS_WITH_EPSILON,
    NOISE_FOOLS,
    STILL_IMPROVING,
    SILENT_SUCCESS,
    UNSTABLE_VOTES,
    DUPLICATES,
    BEFORE_ALARM,
    FALSE_ALARMS,
    TOO_FEW_GAMES,
)
"""The grave ones first."""


def audit(matrix: Matrix, siblings: Sequence[Matrix] = ()) -> list[Finding]:
    """What all indicators say of a matrix: what was found, what is clear, and what could not be checked.

    Args:
        siblings: matrices that differ from it in epsilon alone.
    """
    subject = Subject(matrix, siblings)
    return [finding for indicator in INDICATORS for finding in indicator.findings(subject)]


def findings_of(sources: Sequence[Source]) -> Callable[[Matrix], list[Finding]]:
    """`audit` for the matrices of some sources, each beside those that differ from it in epsilon alone."""
    alike: dict[str, list[Matrix]] = defaultdict(list)
    for matrix in matrices(sources):
        alike[_but_epsilon(matrix)].append(matrix)

    def findings(matrix: Matrix) -> list[Finding]:
        own = matrix.threat.epsilon
        return audit(matrix, [other for other in alike[_but_epsilon(matrix)] if other.threat.epsilon != own])

    return findings


def _but_epsilon(matrix: Matrix) -> str:
    """What matrices that differ in epsilon alone have in common."""
    info = next(iter(matrix.cells.values())).sources[0].match.info
    rules = matrix.threat.model_dump(mode="json", exclude={"epsilon"})
    return to_json([info.dataset_sha, info.classifier_sha, rules, matrix.at])
