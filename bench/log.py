"""Rows per second into a log, from the Referee's columns to rows counted back from the database.

python -m bench.log [--log PATH-OR-URL] [--rows N] [--games G ...]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from arena.log import Log, open_log, schema
from arena.records.pieces import Pieces
from arena.records.reports import GameRows, QueryRows
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.threat import Threat


def volleys(games: int, rows: int) -> Iterator[QueryRows]:
    """Volleys of one query of each of `games` games, `rows` in all; every 50th row is declined."""
    rng = np.random.default_rng(0)
    for turn in range(1, rows // games + 1):
        margin = rng.normal(size=games)
        margin[turn % 50 :: 50] = np.nan
        yield QueryRows(
            purpose="boundary-search" if turn % 10 else "gradient",
            game=np.arange(games),
            turn=np.full(games, turn),
            account=np.zeros(games, np.int64),
            label=rng.integers(0, 10, games),
            refused=np.isnan(margin),
            flagged=rng.random(games) < 0.01,
            margin=margin,
            l2=rng.random(games),
            linf=rng.random(games),
            hit=margin < -2,
            outside=np.zeros(games, bool),
            better=rng.random(games) < 0.05,
        )


def outcomes(games: int, queries: int) -> GameRows:
    """How the games of a shard of CIFAR-sized images ended: none won."""
    never, no = np.zeros(games, np.int64), np.zeros(games, bool)
    return GameRows(
        game=np.arange(games),
        key=np.arange(games),
        label=never,
        target=never - 1,
        reason=["budget"] * games,
        queries=never + queries,
        insider_queries=never,
        refused=never,
        answered=no,
        wrong=np.zeros((games, 2), np.int64),
        asked=np.tile(np.array([13, 12]), (games, 1)),
        again=np.full(games, np.nan),
        base=no,
        hit_at=never,
        accepted_at=never,
        l2=np.full(games, np.nan),
        linf=np.full(games, np.nan),
        final=np.random.default_rng(0).random((games, 3, 32, 32), np.float32),
    )


def measure(log: Log, games: int, rows: int) -> dict[str, float | int | str]:
    """Plays a shard of made-up rows into the log; the clock runs from the first volley to the commit."""
    match = _match(log, games)
    shard_volleys, ended = list(volleys(games, rows)), outcomes(games, rows // games)
    start, processor = time.perf_counter(), time.process_time()
    with log.shard(match, 0, 0, "bench", ended.key) as recorder:
        pieces = Pieces(recorder)
        for volley in shard_volleys:
            pieces.queries(volley)
        pieces.games(ended)
        pieces.close()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    with log.database.reader.connect() as connection:
        counted = connection.execute(
            select(func.count())
            .select_from(schema.queries)
            .join(schema.games, schema.games.c.id == schema.queries.c.game_id)
            .where(schema.games.c.match_id == match)
        ).scalar_one()
    return {
        "database": "SQLite" if log.database.is_sqlite else "PostgreSQL",
        "rows_a_volley": games,
        "rows": counted,
        "seconds": round(seconds, 3),
        "rows_per_second": round(counted / seconds),
        "rows_per_processor_second": round(counted / processor),
    }


def _match(log: Log, number: int) -> int:
    run = log.begin_run(RunInfo("bench", "bench", 0, {}, "cpu", "bench"))
    info = MatchInfo(
        number=number,
        fingerprint="bench",
        attacker="none",
        attacker_params={},
        defender="none",
        defender_params={},
        classifier="none",
        classifier_sha="",
        dataset="none",
        dataset_sha="",
        threat=Threat(epsilon=1.0, budget=1000),
        classes=10,
        image_shape=(3, 32, 32),
    )
    return log.begin_match(run, info, fresh=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", help="path or URL; a temporary SQLite file by default")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--games", type=int, nargs="+", default=[250, 1000], help="rows of a volley")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        log = stack.enter_context(open_log(given.log or Path(folder) / "bench.db"))
        for games in given.games:
            print(json.dumps(measure(log, games, given.rows)), flush=True)


if __name__ == "__main__":
    main()
