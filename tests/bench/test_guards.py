from __future__ import annotations

from pathlib import Path

import pytest

from arena.game.driver import Meter
from arena.log import open_log
from arena.running.runner import Run
from bench.guards import unguarded
from bench.logs import Book
from bench.replay import Unwatched
from bench.worlds import scenario


def contents(run: Run, log: Path) -> dict[str, str]:
    with open_log(log) as book:
        run.play(book, Unwatched())
    return Book(str(log)).contents()


def test_without_guards_agents_that_need_none_play_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defenders = [{"name": "snd", "sigma": 0.02}]
    threat = {"epsilon": 0.1, "budget": 5}
    run = Run(scenario("digits", 2, threat, "square", log="queries", defenders=defenders, utility=0))
    guarded = contents(run, tmp_path / "guarded.db")

    monkeypatch.setattr(Meter, "moved", lambda self, seconds: pytest.fail("a guard was asked"))
    with unguarded():
        assert contents(run, tmp_path / "unguarded.db") == guarded
