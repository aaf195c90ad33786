"""A run's matches in numbers, queried from the log."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from sqlalchemy import select

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.league.rates import Rate, mean, median, rate, standing
from arena.log import Log, LogError, questions, schema
from arena.log.answers import Curve, LoggedGames, LoggedMarks, LoggedMatch, LoggedRun
from arena.records.evidence import distance_by, lost_early
from arena.report.detection import Detection, read_detection
from arena.report.distances import Distances, distances
from arena.rules.outcome import BROKEN, FAILED, Bools, Floats, Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
MANY = 0.1
"""From this share of failed games on, a match is no evidence of strength (docs/design.md, D14)."""


@dataclass(frozen=True)
class Row:
    """A match over its finished shards.

    Attributes:
        match: as it is in the log.
        shards, begun: how many shards are finished, and how many were begun.
        seconds: the time spent on the finished ones.
        drawn, played: games; those that the classifier did not lose before they began.
        won: games that the attacker wins by the headline verdict; by `vote` with more than half of the fresh
            answers.
        clean: share of the games drawn whose clean image the hardened classifier gets right.
        left: the accuracy left, over the games drawn, by query count and verdict; from 0 on if the log
            records it (by `vote`, the share of right fresh answers to the clean images); the budget last.
        left_again: the accuracy left by `again`, by query count, where a defender remembers and it was asked.
        success: share of the games played that the attacker wins, by verdict on the final image.
        success_again: the same by `again`; None where nobody was asked again.
        accepted: share won by hits that the attacker's own rule accepted; None if it has no such rule.
        queries_mean, queries_median: charged per game played; NaN without any.
        hit_mean, hit_median: turn of the first hit, over the games with one; NaN without any.
        distance_median: of the final image in the threat's norm over the games played; infinite if it is
            no hit, or loses by the headline verdict.
        queries, refused, insider: queries charged, refused, and insider evaluations, in all.
        reasons: how many games ended for each reason.
        lost_early: how many games the attacker ended with queries left although the final image loses its
            vote (at most half of the fresh answers are wrong); 0 where answers are facts.
        trouble: the first error that was noted, "" without any.
        curve: hits against queries.
        distances: by query count; None under another objective than `minimum`.
        query_l2: by query count, from 1 on, the mean l2 distance of the query there, or of the last one of a
            game that ended before, over the games played; empty where the log does not tell.
        utility: of the defended classifier, on clean images; None if it was not measured.
        benign: what benign clients lost to it; empty if that was not measured.
        detection: what the defender flagged.
        noted: the means of what the attacker noted in numbers, by key.
    """

    match: LoggedMatch
    shards: int
    begun: int
    seconds: float
    drawn: int
    played: int
    won: int
    clean: Rate
    left: Mapping[int, Mapping[Verdict, Rate]]
    left_again: Mapping[int, Rate]
    success: Mapping[Verdict, Rate]
    success_again: Rate | None
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
    lost_early: int
    trouble: str
    curve: Curve
    distances: Distances | None = None
    query_l2: Mapping[int, float] = field(default_factory=dict)
    utility: Utility | None = None
    benign: tuple[BenignLoss, ...] = ()
    detection: Detection = field(default_factory=lambda: Detection(()))
    noted: Mapping[str, float] = field(default_factory=dict)

    @property
    def budget(self) -> int:
        return self.match.info.threat.budget

    @property
    def verdict(self) -> Verdict:
        """The headline verdict."""
        return self.match.info.verdict

    @property
    def facts(self) -> bool:
        """Whether the same image always got the same answer."""
        return self.match.info.answers_are_facts

    @property
    def named(self) -> bool:
        """Whether the scenario names another headline than docs/design.md, D3, as a paper's may be."""
        return self.verdict != ("answered" if self.facts else "vote")

    @property
    def two_ends(self) -> bool:
        """Whether `answered` and `vote` are the two ends of what is left, with no rank between matches: under
        objective `first` attackers stop at an answer that may be luck, and are judged by it."""
        return not self.facts and self.match.info.threat.objective == "first"

    @property
    def both_ends(self) -> bool:
        """Whether both ends are shown: two ends, and no paper's headline."""
        return self.two_ends and not self.named

    @property
    def headline(self) -> Rate:
        """The accuracy left at the budget, by the match's headline verdict."""
        return self.left[self.budget][self.verdict]

    @property
    def asked_again(self) -> bool:
        """Whether `again` was asked, and says something else than `vote`."""
        return any(rate.value != self.left[at]["vote"].value for at, rate in self.left_again.items())

    @property
    def lines(self) -> list[tuple[str, Mapping[int, Rate]]]:
        """What is left by each verdict, by query count, the headline first; one line where all agree, and one
        of `again` where that says something else than `vote`."""
        order = sorted(VERDICTS, key=lambda verdict: verdict != self.verdict)
        if all(len({by[verdict].value for verdict in VERDICTS}) == 1 for by in self.left.values()):
            lines: list[tuple[str, Mapping[int, Rate]]] = [
                ("all", {at: by[self.verdict] for at, by in self.left.items()})
            ]
        else:
            lines = [(verdict, {at: by[verdict] for at, by in self.left.items()}) for verdict in order]
        return lines + [("again", self.left_again)] * self.asked_again

    @property
    def no_start(self) -> float:
        """The share of the games played in which the attacker found nothing to start from."""
        return self.reasons.get("no-start", 0) / self.played if self.played else math.nan

    @property
    def broken(self) -> dict[str, int]:
        """The games that ended with `error` or `stalled`, by reason."""
        return {reason: self.reasons[reason] for reason in BROKEN if reason in self.reasons}

    @property
    def failed(self) -> int:
        """How many games ended with `error`, `stalled` or `no-start`."""
        return sum(self.reasons.get(reason, 0) for reason in FAILED)

    @property
    def hollow(self) -> bool:
        """Whether games were played, and every one of them failed: what is left then says nothing."""
        return 0 < self.played == self.failed

    @property
    def weak(self) -> bool:
        """Whether so many games failed (`MANY`) that what is left is no evidence of strength."""
        return self.failed >= max(1.0, MANY * self.played)

    @property
    def banned(self) -> int:
        """How many games ended because the defender had banned all accounts."""
        return self.reasons.get("banned", 0)


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
    """A run's matches in the order of its scenario, as they are at one moment."""
    with log.snapshot():
        return _read_rows(log, run_id)


def _read_rows(log: Log, run_id: int) -> list[Row]:
    rows = []
    for match in questions.matches(log, run_id):
        outcomes, marks = questions.outcomes(log, match.id), questions.verdicts(log, match.id)
        curve, shards = questions.curve(log, match.id), _shards(log, match.id)
        trouble = _trouble(log, match.id) if set(BROKEN) & set(outcomes.reason) else ""
        row = summarise(match, outcomes, marks, curve, shards, trouble)
        beside: dict[str, Any] = {
            "utility": questions.utility(log, match.id, match.info.utility),
            "benign": tuple(questions.benign(log, match)),
            "detection": read_detection(log, match),
            "noted": questions.note_means(log, match.id),
        }
        rows.append(replace(row, **beside))
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
    threat, verdict = match.info.threat, match.info.verdict
    played = np.array([reason != "clean" for reason in outcomes.reason], np.bool_)
    image, hits = outcomes.image, outcomes.hit_at[outcomes.hit_at > 0]
    distance = distance_by(verdict, getattr(outcomes, threat.norm), getattr(outcomes, verdict))[played]
    queries = outcomes.queries[played]
    accepted = outcomes.accepted_at[played] > 0
    again = played & ~np.isnan(outcomes.again)
    early = lost_early(outcomes.reason, outcomes.queries, outcomes.vote, threat.budget)
    return Row(
        match=match,
        shards=shards[0],
        begun=shards[1],
        seconds=shards[2],
        drawn=len(outcomes),
        played=int(played.sum()),
        won=int((getattr(outcomes, verdict)[played] > 0.5).sum()),
        clean=rate(played, image),
        left=_left(match, outcomes, marks, played),
        left_again=_left_again(match, outcomes, marks, played),
        success={v: rate(getattr(outcomes, v)[played], image[played]) for v in VERDICTS},
        success_again=rate(_or_vote(outcomes)[played], image[played]) if again.any() else None,
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
        lost_early=0 if match.info.answers_are_facts else int(early.sum()),
        trouble=trouble,
        curve=curve,
        distances=distances(match, outcomes, marks, played),
        query_l2=_query_l2(marks),
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


def _left_again(
    match: LoggedMatch, outcomes: LoggedGames, marks: LoggedMarks, played: Bools
) -> dict[int, Rate]:
    """As `_left`, by `again`; empty where nobody was asked again. A game that was not asked again at a count
    stands there by its vote."""
    if np.isnan(outcomes.again).all():
        return {}
    budget, known = match.info.threat.budget, {}
    for at in sorted(set(marks.at.tolist())):
        if 0 < at < budget:
            row = standing(outcomes.game, marks, at)
            known[at] = np.where(row < 0, 0, _or_vote(marks)[row])
    known[budget] = _or_vote(outcomes)
    return {at: rate(np.where(played, 1 - lost, 0.0), outcomes.image) for at, lost in known.items()}


def _query_l2(marks: LoggedMarks) -> dict[int, float]:
    """Games that were over before they began had no query."""
    told = ~np.isnan(marks.query_l2)
    counts = sorted(set(marks.at[told].tolist()))
    return {at: float(marks.query_l2[told & (marks.at == at)].mean()) for at in counts}


def _or_vote(told: LoggedGames | LoggedMarks) -> Floats:
    """[n] `again`, and the vote where it was not asked."""
    return np.where(np.isnan(told.again), told.vote, told.again)


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
