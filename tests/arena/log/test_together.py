"""Several processes play one run into one log: they share it, wait for each other, and outlive each other."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arena.log import LogError, open_log, questions
from arena.log.files import beside

SCENARIO = """
title = "Together"
games = 6
shard = 1
utility = 0
attackers = [{ name = "square", p = 0.3 }]
defenders = ["none"]
threat = { epsilon = 0.2, budget = 20 }
"""

PLAY = """
import os, time
from arena.cli import play
from arena.cli.app import main
if os.environ.get("HANG"):
    played = play._Bar.played
    def hang(self, queries):
        played(self, queries)
        print("in a shard", flush=True)
        time.sleep(600)
    play._Bar.played = hang
main()
"""

Start = Callable[..., Any]


@pytest.fixture
def start(children: Any, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts `arena play` in a process."""
    monkeypatch.chdir(tmp_path)
    Path("together.toml").write_text(SCENARIO)
    return lambda **env: children.start(
        PLAY, "play", "together.toml", "--log", where, XDG_CACHE_HOME=str(tmp_path), **env
    )


def games(where: str) -> tuple[int, int]:
    """How many there are in finished shards, and how many by image."""
    with open_log(where, create=False) as log:
        return questions.sql(log, "SELECT count(*), count(DISTINCT image) FROM finished_games").rows[0]


def clean(where: str) -> bool:
    """Whether the log is whole, with one run that has ended, and nobody and nothing is left beside it."""
    with open_log(where, create=False) as log:
        (run,) = questions.runs(log)
        left = questions.sql(log, "SELECT * FROM processes").rows
        left += questions.sql(log, "SELECT * FROM shards WHERE state <> 'finished'").rows
    folder = Path(where).parent
    beside = [] if "://" in where else [f for f in folder.iterdir() if f.name.startswith("log.db")]
    return run.ended is not None and not left and len(beside) in (0, 1)


@pytest.mark.parametrize("several", [2, 4])
def test_those_that_start_together_play_one_run(start: Start, where: str, several: int) -> None:
    playing = [start() for _ in range(several)]
    assert [child.wait() for child in playing] == [0] * several, [child.errors for child in playing]
    for child in playing:
        assert "error" not in child.errors and "Error" not in child.errors
        assert "Together" in child.out.read_text(), "each shows the results of all"
    count, images = games(where)
    assert count == images >= 6
    assert clean(where)
    again = start()
    assert again.wait() == 0
    assert "holds this run already (run 1)" in " ".join(again.out.read_text().split())


def test_who_is_killed_leaves_its_shard_to_the_other(start: Start, where: str) -> None:
    killed = start(HANG="1")
    killed.wait_until(lambda: "in a shard" in killed.out.read_text())
    other = start()
    said = f"process {killed.pid} plays what is left of this run, 1 shard; waiting for it"
    other.wait_until(lambda: said in " ".join(other.errors.split()))
    assert games(where)[0] >= 5
    killed.send_signal(signal.SIGKILL)
    assert other.wait() == 0, other.errors
    assert len(re.findall("waiting for it", " ".join(other.errors.split()))) == 1
    count, images = games(where)
    assert count == images >= 6
    assert clean(where)


def test_a_new_log_is_not_begun_where_another_process_still_plays(path: Path, begun: Any, made: Any) -> None:
    with open_log(path) as log:
        match = begun(log)
        with pytest.raises(LogError), log.shard(match, 0, 0, "f", made().keys) as recorder:
            path.unlink()
            with pytest.raises(LogError, match="moved or deleted while another process plays into it"):
                open_log(path)
            made().tell(recorder)
    assert not list(path.parent.glob("log.db-process-*"))
    beside(path, "-wal").write_text("of the log that was there before")
    with open_log(path) as log:
        assert questions.runs(log) == []
