"""Matches written by hand: what a test looks at is given, all else is sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from arena.evaluation.clean_utility import Utility
from arena.league.cells import Source
from arena.log.answers import LoggedGames, LoggedMarks, LoggedMatch, LoggedRun, PurposeCounts
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.threat import Threat

THREAT = Threat(norm="linf", epsilon=0.1, budget=100, objective="submit")
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def match(
    attacker: str = "att",
    defender: str = "def",
    won: ArrayLike = (),
    *,
    votes: int = 1,
    marks: Mapping[int, ArrayLike] | None = None,
    image: ArrayLike | None = None,
    threat: Threat = THREAT,
    facts: bool | None = None,
    draw: str = "0",
    run: int = 1,
    log: str = "log.db",
    shards: tuple[int, int] = (1, 1),
    utility: Utility | None = None,
    asked: Sequence[PurposeCounts] = (PurposeCounts("search", 100, 7, 3, 10, 0),),
    number: int = 0,
    params: Mapping[str, Any] | None = None,
    **columns: Any,
) -> Source:
    """A match of n games on images 0 to n - 1, one each.

    Args:
        won: [n] the share of fresh answers that are wrong, or [n,2] how many of each half are.
        votes: how many fresh answers a game has.
        marks: by query count `won` as it was then, without games that had no mark yet: NaN.
        facts: unless given, there is but one fresh answer.
        draw: what `Source.draw` says.
        columns: of `LoggedGames`, in place of sound ones.
    """
    facts = votes == 1 if facts is None else facts
    own = _columns(np.asarray(won, np.float64), votes)
    n = len(own["answered"])
    sound: dict[str, Any] = {
        "game": 10 + np.arange(n),
        "image": np.arange(n) if image is None else np.asarray(image),
        "target": np.full(n, -1),
        "reason": ["budget"] * n,
        "queries": np.full(n, threat.budget),
        "hit_at": np.where(own["answered"], 1, 0),
        **own,
        **{name: np.asarray(v) if name != "reason" else list(v) for name, v in columns.items()},
    }
    described = {"name": attacker, "shard": n or 1, "games": n, "repeats": 1}
    info = MatchInfo(
        number=number,
        fingerprint=f"{attacker}/{defender}",
        attacker=attacker,
        attacker_params=params or {},
        defender=defender,
        defender_params={},
        classifier="net",
        classifier_sha="c",
        dataset="images",
        dataset_sha="d",
        threat=threat,
        classes=10,
        image_shape=(1, 1, 1),
        at=tuple(marks or ()),
        verdict="answered" if facts else "vote",
        answers_are_facts=facts,
        utility=0 if utility is None else utility.images,
    )
    about = RunInfo("made", "Made", 0, {"arena": "1"}, "cpu", "f", resolved={"matches": [described]})
    return Source(
        log=log,
        run=LoggedRun(run, about, BEGUN + timedelta(days=run), None),
        match=LoggedMatch(100 * run + number, run, info),
        draw=draw,
        games=_filled(LoggedGames, sound, n),
        marks=_marks(sound["game"], marks or {}, votes),
        asked=tuple(asked),
        shards=shards,
        utility=utility,
    )


def utility(accuracy: float = 0.9, agreement: float = 0.95, **given: Any) -> Utility:
    """Of a defended classifier on 1,000 images."""
    sound = {"declined": 0.0, "refused": 0.0, "ece": 0.0, "ece_mass": 0.0, "nll": 0.1}
    return Utility(1000, accuracy, accuracy, accuracy, agreement=agreement, **sound | given)


def _columns(won: Any, votes: int) -> dict[str, Any]:
    """The verdicts of games won as `match` says."""
    halves = np.array([(votes + 1) // 2, votes // 2])
    if won.ndim == 1:
        wrong = np.round(won * votes).astype(np.int64)
        # The first half of the answers gets its even part, so that both halves tell of the same share.
        first = np.clip(np.ceil(wrong * halves[0] / votes).astype(np.int64), wrong - halves[1], halves[0])
        won = np.stack([first, wrong - first], axis=1)
    won = won.astype(np.int64)
    shares = won.sum(axis=1) / votes
    return {
        "answered": shares > 0,
        "vote": shares,
        "wrong_a": won[:, 0],
        "wrong_b": won[:, 1],
        "asked_a": np.full(len(won), halves[0]),
        "asked_b": np.full(len(won), halves[1]),
        "again": np.full(len(won), np.nan),
        "base": shares > 0.5,
        "l2": np.where(shares > 0, 0.5, np.inf),
        "linf": np.where(shares > 0, 0.1, np.inf),
    }


def _marks(game: Any, marks: Mapping[int, ArrayLike], votes: int) -> LoggedMarks:
    parts = []
    for at, won in sorted(marks.items()):
        values = np.asarray(won, np.float64)
        there = ~np.isnan(values if values.ndim == 1 else values[:, 0])
        own = _columns(values[there], votes)
        n = int(there.sum())
        parts.append({"at": np.full(n, at), "turn": np.full(n, at), "game": np.asarray(game)[there], **own})
    names = [f.name for f in fields(LoggedMarks)]
    columns = {
        name: np.concatenate([np.asarray(part.get(name, np.zeros(len(part["at"])))) for part in parts])
        for name in names
        if parts
    }
    return LoggedMarks(**(columns or dict.fromkeys(names, np.zeros(0, np.int64))))


def _filled(kind: Any, columns: Mapping[str, Any], n: int) -> Any:
    names = [f.name for f in fields(kind)]
    return kind(**{name: columns.get(name, np.zeros(n, np.int64)) for name in names})
