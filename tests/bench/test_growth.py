"""Made-up logs are such as games leave, and can be asked."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from arena.log import open_log
from bench.growth import measure
from bench.logs import Book
from bench.made_logs import write_log


def test_made_up_logs_fit_together(tmp_path: Path) -> None:
    path = tmp_path / "made.db"
    with open_log(path) as log:
        told = write_log(log, 30_000)
    assert Book(str(path)).look().faults == []
    with sqlite3.connect(path) as connection:

        def count(asked: str) -> int:
            return int(connection.execute(f"SELECT count(*) FROM {asked}").fetchone()[0])

        assert count("queries") == told["rows"] > 20_000
        assert count("games WHERE reason = 'budget'") * 100 == told["rows"]
        first = "(SELECT min(q.turn) FROM queries q WHERE q.game_id = games.id AND q.hit)"
        assert count(f"games WHERE hit_at IS NOT {first}") == 0 < count("games WHERE hit_at > 1")
        near = "(SELECT min(q.l2) FROM queries q WHERE q.game_id = k.game_id AND q.hit AND q.turn <= k.at)"
        assert count(f"marks k WHERE k.l2 IS NOT {near}") == 0 < count("marks k WHERE k.at = 25 AND l2 > 0")
        same = "k.l2 IS g.l2 AND k.wrong_a = g.wrong_a AND k.answered = g.answered"
        ended = f"marks k JOIN games g ON g.id = k.game_id WHERE k.at = 100 AND NOT ({same})"
        assert count(ended) == 0


@pytest.mark.slow
def test_a_small_log_is_measured(tmp_path: Path) -> None:
    lines = list(measure(str(tmp_path / "x.db"), 4_000, tmp_path, 1, ["matrices", "runs"]))
    assert [line["what"] for line in lines] == ["write", "matrices", "runs"]
    assert all(line["seconds"] > 0 and line["peak MiB"] > 10 for line in lines)
    assert lines[0]["rows/s"] > 0 and 50 < lines[0]["bytes/row"] < 5000
