"""Records of matches written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from arena.notebook.result import Result
from arena.records.reports import GameRows, MarkRows, NoteRows
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.threat import Threat

MATCH = MatchInfo(
    number=0,
    fingerprint="m",
    attacker="square",
    attacker_params={"p": 0.05},
    defender="none",
    defender_params={"defenders": [{"name": "none"}]},
    classifier="net",
    classifier_sha="c",
    dataset="images",
    dataset_sha="d",
    threat=Threat(epsilon=0.5, budget=10),
    classes=10,
    image_shape=(1, 1, 1),
    at=(10,),
)
RUN = RunInfo(
    scenario="arena.play", title="By hand", seed=7, versions={"arena": "1.2"}, device="cpu", fingerprint="f"
)
Make = Callable[..., Result]


@pytest.fixture(scope="session")
def by_hand() -> Make:
    """A result of games that ended for these reasons; columns of `GameRows` and fields of `MatchInfo` by
    name, `vote` as shares of 20 answers, `marks` as tables of columns by query count."""

    def by_hand(
        reason: Sequence[str], marks: dict[int, dict[str, Any]] | None = None, error: str = "", **given: Any
    ) -> Result:
        n = len(reason)
        info = {key: given.pop(key) for key in [*given] if key in vars(MATCH)}
        purposes = given.pop("purposes", {})
        columns = _columns(n, given)
        games = GameRows(
            reason=list(reason),  # type: ignore[arg-type]
            key=np.arange(n),
            label=np.full(n, 3),
            target=np.full(n, -1),
            insider_queries=np.zeros(n, np.int64),
            refused=np.zeros(n, np.int64),
            accepted_at=np.zeros(n, np.int64),
            final=np.full((n, 1, 1, 1), 0.25, np.float32),
            queries=columns.pop("queries", np.full(n, 10)),
            hit_at=columns.pop("hit_at", np.zeros(n, np.int64)),
            **columns,
        )
        rows = {
            at: MarkRows(at=at, turn=np.full(n, at), query_l2=np.full(n, 0.5), **_columns(n, own))
            for at, own in (marks or {}).items()
        }
        failed = np.flatnonzero([r == "error" for r in reason])
        notes = [NoteRows("error", failed, failed * 0, [error] * len(failed))] if error else []
        originals = np.full((n, 1, 1, 1), 0.5, np.float32)
        return Result(replace(MATCH, **info), RUN, originals, games, rows, notes=notes, purposes=purposes)

    return by_hand


def _columns(n: int, given: dict[str, Any]) -> dict[str, Any]:
    """The columns that games and marks share, and those given."""
    own = {key: np.asarray(value) for key, value in given.items()}
    wrong = np.round(20 * own.pop("vote", np.zeros(n))).astype(np.int64)
    half = np.minimum(wrong, 10)
    return {
        "game": np.arange(n),
        "answered": np.zeros(n, np.bool_),
        "wrong": np.stack([half, wrong - half], axis=1),
        "asked": np.full((n, 2), 10),
        "again": np.full(n, np.nan),
        "base": np.zeros(n, np.bool_),
        "l2": np.full(n, np.nan),
        "linf": np.full(n, np.nan),
        **own,
    }
