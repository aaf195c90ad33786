"""A log whose files are moved, deleted or replaced while it is written; and what is left beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from arena.log import Log, LogError, open_log, questions
from arena.log.files import beside

SAVED = "the finished shards in it are safe"

Moved = Callable[[Path], Path | None]


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    with open_log(other):
        pass
    other.replace(path)


def move(path: Path) -> Path:
    return path.rename(path.with_name("moved.db"))


def move_its_folder(path: Path) -> Path:
    return path.parent.rename(path.parent.with_name("moved")) / path.name


def lose_wal(path: Path) -> Path:
    beside(path, "-wal").unlink()
    return path


LOST = "what it held is lost, and the same command begins anew"
FATES: dict[Moved, str] = {
    delete: f"it was deleted while it was written: {LOST}",
    replace: f"it was replaced by another file while it was written: {LOST}",
    move: "all finished shards are safe in .*moved.db; move it back, and the same command goes on",
    move_its_folder: r"all finished shards are safe in .*/moved/log\.db; move it back",
    lose_wal: rf"log\.db-wal was moved, .* and what it held was saved in the log: {SAVED}",
}


def finish(log: Log, match: int, number: int, made: Any) -> None:
    with log.shard(match, number, 0, "f", made().keys) as recorder:
        made().tell(recorder)


@pytest.mark.parametrize("fate", list(FATES), ids=lambda fate: fate.__name__)
@pytest.mark.parametrize("amid", [False, True], ids=["between shards", "amid a shard"])
def test_a_log_that_goes_away_is_noticed_and_told_as_it_is(
    tmp_path: Path, begun: Any, made: Any, fate: Moved, amid: bool
) -> None:
    (tmp_path / "runs").mkdir()
    path = tmp_path / "runs" / "log.db"
    now: Path | None = None
    with open_log(path) as log:
        match = begun(log)
        finish(log, match, 0, made)
        said = rf"^log {path}: .*{FATES[fate]}"
        if amid:
            with (
                pytest.raises(LogError, match=said),
                log.shard(match, 1, 0, "f", made().keys) as recorder,
            ):
                now = fate(path)
                made().tell(recorder)
        else:
            now = fate(path)
            with pytest.raises(LogError, match=said):
                finish(log, match, 1, made)
    if now is not None:
        with open_log(now, create=False) as log:
            assert log.finished_shards(match) == {(0, 0): "f"}
            assert len(questions.outcomes(log, match)) == 5
        with closing(sqlite3.connect(now)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_is_whole_by_itself_after_writers_readers_and_interruptions(
    path: Path, begun: Any, made: Any
) -> None:
    def alone() -> bool:
        return [file.name for file in path.parent.iterdir()] == [path.name]

    with open_log(path) as log:
        match = begun(log)
        finish(log, match, 0, made)
    assert alone()
    with open_log(path, create=False) as reader:
        assert len(questions.runs(reader)) == 1
    assert alone()
    with pytest.raises(KeyboardInterrupt), open_log(path) as log, log.shard(match, 1, 0, "f", made().keys):
        raise KeyboardInterrupt
    assert alone()
    with open_log(path) as log, open_log(path, create=False) as reader:
        questions.runs(reader)
        finish(log, match, 1, made)
        with reader.snapshot():
            questions.runs(reader)
    assert alone()


def test_a_log_behind_a_symbolic_link_is_the_same_log(path: Path, begun: Any, made: Any) -> None:
    link = path.parent / "folder" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with open_log(path) as log, open_log(link) as other:
        match = begun(log)
        with log.shard(match, 0, 0, "f", made().keys) as recorder:
            assert set(other.in_play(match)) == {(0, 0)}
            made().tell(recorder)
    assert sorted(file.name for file in path.parent.rglob("*")) == ["folder", "link.db", "log.db"]
