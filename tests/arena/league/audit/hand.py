"""Matches made by hand, without a game: what an indicator looks at is set, all else is sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from arena.league.audit.auditing import findings_of
from arena.league.board import Finding
from arena.league.cells import Source
from arena.league.matrices import matrices
from arena.log.answers import LoggedGames, LoggedMarks, LoggedMatch, LoggedRun, PurposeCounts
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.threat import Threat

N = 40
THREAT = Threat(norm="linf", epsilon=0.1, budget=100, objective="submit")
RUN = LoggedRun(
    1,
    RunInfo(scenario="s", title="t", seed=0, versions={}, device="cpu", fingerprint="f"),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 2, tzinfo=UTC),
)


def source(
    attacker: str = "square",
    defender: str = "none",
    *,
    won: Sequence[float] | int = 0,
    threat: Threat = THREAT,
    facts: bool = True,
    params: dict[str, Any] | None = None,
    twin: dict[str, Any] | None = None,
    controls: tuple[bool, bool] | None = None,
    asked: Sequence[PurposeCounts] = (PurposeCounts("search", 100, 0, 0, 10, 0),),
    roles: bool = True,
    needs: str = "scores",
    **columns: Any,
) -> Source:
    """A match of N games on images 0 to N - 1 that went on to the last query.

    Args:
        won: the share of wrong fresh answers by game, or how many of the first games were won.
        controls: whether the sides are controls; None: `noise`, `none` and `weak` are.
        columns: of `LoggedGames`, in place of sound ones.
    """
    votes = 1 if facts else 25
    shares = np.arange(N) < won if isinstance(won, int) else np.asarray(won)
    wrong = np.round(shares * votes).astype(np.int64)
    half = (votes + 1) // 2
    sound: dict[str, Any] = {
        "game": np.arange(N),
        "image": np.arange(N),
        "label": np.zeros(N, np.int64),
        "target": np.full(N, -1),
        "reason": ["submitted" if w > votes / 2 else "budget" for w in wrong.tolist()],
        "queries": np.where(wrong > votes / 2, 30, threat.budget),
        "answered": wrong > 0,
        "vote": wrong / votes,
        "wrong_a": np.minimum(wrong, half),
        "asked_a": np.full(N, half),
        "wrong_b": np.maximum(wrong - half, 0),
        "asked_b": np.full(N, votes - half),
        "again": np.full(N, np.nan),
        "base": wrong > votes / 2,
        "hit_at": np.where(wrong > 0, 30, 0),
        "l2": np.where(wrong > 0, 0.5, np.inf),
        "linf": np.where(wrong > 0, 0.1, np.inf),
        "flagged": np.zeros(N),
        "alarm_at": np.full(N, np.nan),
        "duplicates": np.zeros(N),
        "margin_first": np.full(N, 10.0),
        "margin_late": np.full(N, 2.0),
        "margin_best": np.full(N, 2.0),
        "distance_first": np.full(N, 1.0),
        "distance_late": np.full(N, 0.1),
    }
    names = [f.name for f in fields(LoggedGames)]
    unset = {name: np.zeros(N, np.int64) for name in names if name not in sound}
    games = LoggedGames(**{k: v for k, v in (unset | sound | columns).items() if k in names})
    told = controls or (attacker == "noise", defender in ("none", "weak"))
    said = {
        "twin": twin,
        "feedback": needs,
        "controls": {"attacker": told[0], "defender": told[1]},
    }
    info = MatchInfo(
        number=0,
        fingerprint=f"{attacker} {defender} {threat.epsilon}",
        attacker=attacker,
        attacker_params=params or {},
        defender=defender,
        defender_params={},
        classifier="c",
        classifier_sha="c",
        dataset="d",
        dataset_sha="d",
        threat=threat,
        classes=10,
        image_shape=(1, 2, 2),
        verdict="answered" if facts else "vote",
        answers_are_facts=facts,
        facts={"roles": said} if roles else {},
    )
    marks = LoggedMarks(**{f.name: np.zeros(0) for f in fields(LoggedMarks)})
    return Source("log", RUN, LoggedMatch(1, 1, info), "0", games, marks, tuple(asked), (1, 1))


def said(indicator: str, *sources: Source, threat: Threat | None = None) -> list[Finding]:
    """What an indicator says of the matrix of some matches, of several that of `threat`."""
    found = matrices(sources)
    (matrix,) = [m for m in found if threat is None or m.threat.epsilon == threat.epsilon]
    return [one for one in findings_of(sources)(matrix) if one.indicator == indicator]


def renamed(one: Source, **changes: Any) -> Source:
    """The match with other facts about it."""
    return replace(one, match=replace(one.match, info=replace(one.match.info, **changes)))
