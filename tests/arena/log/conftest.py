"""What the log's tests share: made-up shards, and databases of both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arena.log import Log, open_log
from arena.records.pieces import LogLevel, Pieces, Recorder
from arena.records.reports import GameRows, MarkRows, NoteRows, QueryRows
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import REASONS
from arena.rules.threat import Threat
from bench.servers import NoServer, Server

RUN = RunInfo(
    scenario="trial.toml",
    title="A trial",
    seed=2**40,
    versions={"arena": "0.1"},
    device="cpu",
    fingerprint="run",
    batch=64,
    resolved={"games": 5, "nested": {"epsilon": 0.5}},
)
MATCH = MatchInfo(
    number=0,
    fingerprint="match",
    attacker="square",
    attacker_params={"p": 0.05, "of": {"name": "x"}},
    defender="aaa-sine",
    defender_params={"alpha": 0.7},
    classifier="resnet20",
    classifier_sha="c0ffee",
    dataset="cifar10",
    dataset_sha="beef",
    threat=Threat(epsilon="8/255", budget=100, feedback="topk:3", goal="targeted", knowledge="detector"),
    classes=10,
    image_shape=(3, 4, 4),
    at=(0, 5, 10),
    repeats=2,
    verdict="vote",
    block="first",
    title="square vs. aaa",
    attacker_title="Square",
    defender_title="AAA",
    utility=500,
    facts={"temperature": 1.5},
)


@dataclass(frozen=True)
class Shard:
    """A made-up shard: what a Referee would report, in order."""

    rows: list[QueryRows | MarkRows | NoteRows]
    games: GameRows

    @property
    def keys(self) -> Any:
        return self.games.key

    def tell(self, recorder: Recorder, level: LogLevel = "queries") -> None:
        pieces = Pieces(recorder, level, Threat(epsilon=0.5, budget=20))
        for rows in self.rows:
            if isinstance(rows, QueryRows):
                pieces.queries(rows)
            elif isinstance(rows, MarkRows):
                pieces.marks(rows)
            else:
                pieces.notes(rows)
        pieces.games(self.games)
        pieces.close()


def _numbers(rng: np.random.Generator, size: int, missing: float = 0.2) -> Any:
    return np.where(rng.random(size) < missing, np.nan, rng.normal(size=size))


def votes(rng: np.random.Generator, games: int) -> dict[str, Any]:
    asked = rng.integers(0, 13, (games, 2))
    again = np.where(rng.random(games) < 0.3, np.nan, rng.random(games) < 0.5)
    return {"wrong": rng.integers(0, asked + 1), "asked": asked, "again": again}


def make_shard(games: int = 5, turns: int = 7, seed: int = 0) -> Shard:
    """Every game asks one query a turn, some games two; every column takes all kinds of values."""
    rng = np.random.default_rng(seed)
    rows: list[QueryRows | MarkRows | NoteRows] = []
    asked = np.zeros(games, np.int64)
    for turn in range(turns):
        game = rng.permutation(np.concatenate([np.arange(games), np.flatnonzero(rng.random(games) < 0.3)]))
        own = np.array([asked[g] + 1 + (game[:i] == g).sum() for i, g in enumerate(game)])
        asked += np.bincount(game, minlength=games)
        n = len(game)
        rows.append(
            QueryRows(
                purpose=["gradient", "boundary-search", "naïve π \0 \ud800"][turn % 3],
                game=game,
                turn=own,
                account=rng.integers(0, 3, n),
                label=rng.integers(-1, 10, n),
                refused=rng.random(n) < 0.2,
                flagged=rng.random(n) < 0.2,
                margin=np.where(rng.random(n) < 0.1, -np.inf, _numbers(rng, n)),
                l2=rng.random(n),
                linf=_numbers(rng, n),
                hit=rng.random(n) < 0.1,
                outside=rng.random(n) < 0.1,
                better=rng.random(n) < 0.3,
                digest=np.random.default_rng(turn).integers(0, 8, n),
                margin_base=None if turn % 3 == 2 else _numbers(np.random.default_rng(turn), n),
            )
        )
        if turn % 3 == 0:
            rows.append(
                MarkRows(
                    at=turn,
                    game=np.arange(games),
                    turn=asked.copy() * (turn > 0),
                    answered=rng.random(games) < 0.5,
                    **votes(rng, games),
                    base=rng.random(games) < 0.5,
                    l2=_numbers(rng, games),
                    linf=_numbers(rng, games),
                    query_l2=_numbers(rng, games),
                )
            )
            some = np.flatnonzero(rng.random(games) < 0.7)
            values: Any = [f"belief {g} \0" for g in some] if turn % 2 else [g / 3 for g in some.tolist()]
            rows.append(NoteRows("tau", some, asked[some], values))
    hit_at = rng.integers(0, 4, games)
    return Shard(
        rows,
        GameRows(
            game=np.arange(games),
            key=rng.permutation(1000)[:games],
            label=rng.integers(0, 10, games),
            target=rng.integers(-1, 10, games),
            reason=[REASONS[i] for i in rng.integers(0, len(REASONS), games)],
            queries=asked,
            insider_queries=rng.integers(0, 9, games),
            refused=rng.integers(0, 9, games),
            answered=hit_at > 0,
            **votes(rng, games),
            base=rng.random(games) < 0.5,
            hit_at=hit_at,
            accepted_at=rng.integers(0, 4, games),
            l2=_numbers(rng, games, 0.5),
            linf=_numbers(rng, games, 0.5),
            final=rng.random((games, 3, 4, 4), np.float32),
        ),
    )


@pytest.fixture
def made() -> Callable[..., Shard]:
    return make_shard


@pytest.fixture
def run_info() -> RunInfo:
    return RUN


@pytest.fixture
def match_info() -> MatchInfo:
    return MATCH


@pytest.fixture
def begun() -> Callable[[Log], int]:
    """Begins a run with one match, numbered after those there are."""

    def begin(log: Log, number: int = 0) -> int:
        run_id, _ = log.find_or_begin_run(RUN)
        return log.begin_match(run_id, replace(MATCH, number=number, fingerprint=f"match {number}"))

    return begin


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> str:
    """A path or URL at which there is no log yet."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("path"))
    return str(request.getfixturevalue("postgresql"))


@pytest.fixture
def log(where: str) -> Iterator[Log]:
    with open_log(where) as opened:
        yield opened


@pytest.fixture
def postgresql(server: Server) -> str:
    return server.url()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server for the session, which can be stopped and started again."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    try:
        running = Server()
    except NoServer as reason:
        pytest.skip(str(reason))
    with running:
        yield running
