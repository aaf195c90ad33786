"""A run's matches in numbers, queried from the log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from sqlalchemy import select

from arena.evaluation.clean_utility import Utility
from arena.log import Log, LogError, questions, schema
from arena.log.answers import Curve, LoggedGames, LoggedMarks, LoggedMatch, LoggedRun
from arena.report.detection import Detection
from arena.report.distances import Distances, distances
from arena.report.rates import Rate, mean, median, rate, standing
from arena.rules.outcome import Bools, Floats, Reason, Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
BROKEN: tuple[Reason, ...] = ("error", "stalled")
"""Reasons that mean that an attacker's code did not play a game to its end."""


@dataclass(frozen=True)
class Row:
    """A match over its finished shards.

    Attributes:
        match: as it is in the log.
        shards, begun: how many shards are finished, and how many were begun.
        seconds: the time spent on the finished ones.
        drawn, played: games; those that the classifier did not lose before they began.
        clean: share of the games drawn whose clean image the hardened classifier gets right.
        left: the accuracy left, over the games drawn, by query count and verdict; from 0 on if the log
            records it (by `vote`, the share of right fresh answers to the clean images); the budget last.
        success: share of the games played that the attacker wins, by verdict on the final image.
        accepted: share won by hits that the attacker's own rule accepted; None if it has no such rule.
        queries_mean, queries_median: charged per game played; NaN without any.
        hit_mean, hit_median: turn of the first hit, over the games with one; NaN without any.
        distance_median: of the final image in the threat's norm over the games played; infinite if it is
            no hit.
        queries, refused, insider: queries charged, refused, and insider evaluations, in all.
        reasons: how many games ended for each reason.
        trouble: the first error that was noted, "" without any.
        curve: hits against queries.
        distances: by query count; None under another objective than `minimum`.
        utility: of the defended classifier, on clean images; None if it was not measured.
        detection: what the defender flagged.
    """

    match: LoggedMatch
    shards: int
    begun: int
    seconds: float
    drawn: int
    played: int
    clean: Rate
    left: Mapping[int, Mapping[Verdict, Rate]]
    success: Mapping[Verdict, Rate]
    accepted: Rate | None
    queries_mean: float
    queries_median: float
    hit_mean: float
    hit_median: float
    distance_median: float
    queries: int
    refused: int
    insider: int
    reasons: Mapping[str, int]
    trouble: str
    curve: Curve
    distances: Distances | None = None
    utility: Utility | None = None
    detection: Detection = field(default_factory=lambda: Detection(()))

    @property
    def budget(self) -> int:
        return self.match.info.threat.budget

    @property
    def headline(self) -> Rate:
        """The accuracy left at the budget, by the match's headline verdict."""
        return self.left[self.budget][self.match.info.verdict]

    @property
    def no_start(self) -> float:
        """The share of the games played in which the attacker found nothing to start from."""
        return self.reasons.get("no-start", 0) / self.played if self.played else math.nan

    @property
    def broken(self) -> dict[str, int]:
        """The games that ended with `error` or `stalled`, by reason."""
        return {reason: self.reasons[reason] for reason in BROKEN if reason in self.reasons}


@dataclass(frozen=True)
class Progress:
    """How many shards of a run are finished, and how many it has in all."""

    finished: int
    expected: int


def read_run(log: Log, run_id: int | None = None) -> LoggedRun:
    """A run by its id; the last one by default.

    Raises:
        LogError: if the log has no such run.
    """
    runs = questions.runs(log)
    if not runs:
        raise LogError(f"log {log.name} holds no run")
    found = runs[-1] if run_id is None else next((run for run in runs if run.id == run_id), None)
    if found is None:
        ids = ", ".join(str(run.id) for run in runs)
        raise LogError(f"log {log.name} has no run {run_id}; it holds {ids}")
    return found


def read_rows(log: Log, run_id: int) -> list[Row]:
    """A run's matches in the order of its scenario."""
    rows = []
    for match in questions.matches(log, run_id):
        outcomes, marks = questions.outcomes(log, match.id), questions.verdicts(log, match.id)
        curve, shards = questions.curve(log, match.id), _shards(log, match.id)
        trouble = _trouble(log, match.id) if set(BROKEN) & set(outcomes.reason) else ""
        row = summarise(match, outcomes, marks, curve, shards, trouble)
        detection = Detection(tuple(questions.asked(log, match.id)))
        rows.append(
            replace(row, utility=questions.utility(log, match.id, match.info.utility), detection=detection)
        )
    return rows


def summarise(
    match: LoggedMatch,
    outcomes: LoggedGames,
    marks: LoggedMarks,
    curve: Curve,
    shards: tuple[int, int, float],
    trouble: str = "",
) -> Row:
    """A match in numbers; `shards` are its finished ones, the begun ones and the seconds."""
    threat = match.info.threat
    played = np.array([reason != "clean" for reason in outcomes.reason], np.bool_)
    image, hits = outcomes.image, outcomes.hit_at[outcomes.hit_at > 0]
    distance = getattr(outcomes, threat.norm)[played]
    queries = outcomes.queries[played]
    accepted = outcomes.accepted_at[played] > 0
    return Row(
        match=match,
        shards=shards[0],
        begun=shards[1],
        seconds=shards[2],
        drawn=len(outcomes),
        played=int(played.sum()),
        clean=rate(played, image),
        left=_left(match, outcomes, marks, played),
        success={v: rate(getattr(outcomes, v)[played], image[played]) for v in VERDICTS},
        accepted=rate(accepted, image[played]) if accepted.any() else None,
        queries_mean=mean(queries),
        queries_median=median(queries),
        hit_mean=mean(hits),
        hit_median=median(hits),
        distance_median=median(distance),
        queries=int(outcomes.queries.sum()),
        refused=int(outcomes.refused.sum()),
        insider=int(outcomes.insider_queries.sum()),
        reasons=dict(Counter(outcomes.reason).most_common()),
        trouble=trouble,
        curve=curve,
        distances=distances(match, outcomes, marks, played),
    )


def progress(run: LoggedRun, rows: list[Row]) -> Progress:
    """How far a run is."""
    expected = {row.match.info.number: row.begun for row in rows}
    for number, described in enumerate(run.info.resolved.get("matches", ())):
        drawn = described.get("drawn", described["games"])  # logs of the first layout do not record it
        expected[number] = math.ceil(drawn / described["shard"]) * described["repeats"]
    return Progress(sum(row.shards for row in rows), sum(expected.values()))


def _left(
    match: LoggedMatch, outcomes: LoggedGames, marks: LoggedMarks, played: Bools
) -> dict[int, dict[Verdict, Rate]]:
    """At the budget by the final images; before it by the images of the last marks."""
    budget = match.info.threat.budget

    def kept(lost: Floats | Bools) -> Rate:
        return rate(np.where(played, 1 - lost.astype(np.float64), 0.0), outcomes.image)

    left: dict[int, dict[Verdict, Rate]] = {}
    for at in sorted(set(marks.at.tolist())):
        if at < budget:
            row = standing(outcomes.game, marks, at)
            left[at] = {v: kept(np.where(row < 0, 0, getattr(marks, v)[row])) for v in VERDICTS}
    return left | {budget: {v: kept(getattr(outcomes, v)) for v in VERDICTS}}


def _shards(log: Log, match_id: int) -> tuple[int, int, float]:
    """How many shards are finished, how many were begun, and the seconds that the finished ones took."""
    shards = schema.shards.c
    wanted = select(shards.state, shards.started, shards.ended).where(shards.match_id == match_id)
    rows = questions.ask(log, wanted)
    spans = [row.ended - row.started for row in rows if row.state == schema.FINISHED]
    return len(spans), len(rows), sum(span.total_seconds() for span in spans)


def _trouble(log: Log, match_id: int) -> str:
    notes: Any = schema.finished_notes.c
    games: Any = schema.finished_games.c
    wanted = (
        select(notes.value)
        .join(schema.finished_games, games.id == notes.game_id)
        .where(games.match_id == match_id, notes.key == "error")
        .order_by(games.id, notes.place)
        .limit(1)
    )
    found = questions.ask(log, wanted)
    return found[0].value if found else ""
