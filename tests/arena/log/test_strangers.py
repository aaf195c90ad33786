"""A stranger's SQLite file is read only where it is a log, undamaged and bounded; nothing in it runs."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from arena.log import LogError, open_log, questions, strangers
from arena.log.strangers import open_strangers


@pytest.fixture(scope="module")
def honest(replays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replays.play(tmp_path_factory.mktemp("strangers") / "log.db", games=3, defenders=["none"])


def changed(honest: Path, to: Path, *statements: str) -> Path:
    path = to / "changed.db"
    shutil.copy(honest, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        for statement in statements:
            connection.execute(statement)
    return path


def test_an_honest_log_is_read_and_left_alone(honest: Path) -> None:
    before = honest.read_bytes(), sorted(honest.parent.iterdir())
    with open_strangers(honest) as log:
        assert log.name == str(honest)
        assert len(questions.runs(log)) == 1 and len(questions.outcomes(log, 1)) >= 3
    assert (honest.read_bytes(), sorted(honest.parent.iterdir())) == before


HOSTILE = {
    "a view in place of a table": (
        ["DROP TABLE notes", "CREATE VIEW notes AS SELECT * FROM marks"],
        "what differs: notes",
    ),
    "a trigger": (
        ["CREATE TRIGGER boom AFTER INSERT ON games BEGIN DELETE FROM runs; END"],
        "what differs: boom",
    ),
    "another view": (
        ["DROP VIEW finished_games", "CREATE VIEW finished_games AS SELECT * FROM games"],
        "what differs: finished_games",
    ),
    "a table more": (["CREATE TABLE more (x)"], "what differs: more"),
    "an index on an expression": (["CREATE INDEX odd ON games (abs(id))"], "what differs: odd"),
    "an older layout": (["UPDATE arena_log_version SET version_num = '0004'"], "has layout 0004"),
    "a layout of any name": (
        ["UPDATE arena_log_version SET version_num = char(27) || '[2J'"],
        "has layout  [2J, and this version writes",
    ),
    "a text for a number": (["UPDATE games SET queries = 'many'"], "column queries of games holds"),
    "a number for a text": (["UPDATE runs SET title = x'00ff'"], "column title of runs holds"),
    "a blob for JSON": (["UPDATE runs SET resolved = x'7b7d'"], "column resolved of runs holds"),
    "a NUL": (
        ["UPDATE runs SET title = 'a' || char(0) || 'b'"],
        "column title of runs holds 1 texts with a NUL",
    ),
    "a huge text": (
        ["UPDATE matches SET title = printf('%.*c', 100000, 'x')"],
        "that are longer than any may be",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_log_of_this_version_is_refused(honest: Path, tmp_path: Path, name: str) -> None:
    statements, says = HOSTILE[name]
    with pytest.raises(LogError) as caught, open_strangers(changed(honest, tmp_path, *statements)):
        pytest.fail("it was opened")
    assert says in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_damaged_file_is_refused(honest: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    content = bytearray(honest.read_bytes())
    for place in range(4096 + 8, len(content), 4096):
        content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(LogError, match="SQLite database"), open_strangers(path):
        pytest.fail("it was opened")


def test_files_that_are_none(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.db").write_text("no database")
    (tmp_path / "link.db").symlink_to(tmp_path / "nowhere")
    open_one = tmp_path / "open.db"
    shutil.copy(honest, open_one)
    (tmp_path / "open.db-wal").write_bytes(b"x")
    for file, says in (
        ("text.db", "is not a SQLite database"),
        ("link.db", "there is no log"),
        ("open.db", "was not closed"),
    ):
        with pytest.raises(LogError, match=says), open_strangers(tmp_path / file):
            pytest.fail("it was opened")
    monkeypatch.setattr(strangers, "LARGEST", 100)
    with pytest.raises(LogError, match="a stranger's log may have 100"), open_strangers(honest):
        pytest.fail("it was opened")


def test_a_new_log_has_the_layout(tmp_path: Path) -> None:
    open_log(tmp_path / "new.db").close()
    with open_strangers(tmp_path / "new.db") as log:
        assert questions.runs(log) == []
