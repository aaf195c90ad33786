"""Where logs lie, what is refused, and the layout that migrations make."""

from __future__ import annotations

import math
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Column, MetaData, Text, create_engine, inspect, text

from arena.evaluation.clean_utility import Utility
from arena.log import LogError, migrations, open_log, questions, schema
from arena.log.database import VERSION_TABLE, Database, head, migrate, parse_address, scripts_config
from arena.log.migrations.__main__ import revise
from arena.records.runs import MatchInfo, RunInfo


def test_migrations_make_exactly_the_tables_of_the_schema(where: str) -> None:
    with open_log(where) as log, log.database.reader.connect() as connection:
        options: dict[str, Any] = {
            "version_table": VERSION_TABLE,
            "compare_type": True,
            "compare_server_default": True,
        }
        options["include_object"] = schema.of_dialect(connection.dialect.name)
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
        assert set(inspect(connection).get_view_names()) == set(schema.VIEWS)


def test_migrations_write_the_same_sql_as_the_schema(path: Path, tmp_path: Path) -> None:
    """Autogeneration overlooks row ids, column order and views."""
    open_log(path).close()
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with other.begin() as connection:
        schema.metadata.create_all(connection)
        for name, view in schema.VIEWS.items():
            connection.execute(text(f"CREATE VIEW {name} AS {view}"))
    assert _layout(path) == _layout(tmp_path / "other.db")


def _layout(path: Path) -> dict[str, list[str]]:
    """What each table, index and view was made with; SQLite writes added columns behind the constraints, and
    the names of tables that were made anew in quotes."""
    with sqlite3.connect(path) as connection:
        made = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: _parts(re.sub(r'[\s"]+', "", sql)) for name, sql in made if name != VERSION_TABLE}


def _parts(sql: str) -> list[str]:
    head, _, rest = sql.partition("(")
    body, _, tail = rest.rpartition(")")
    return [
        head,
        *sorted(re.split(r",(?![^(]*\))", body), key=lambda part: part.startswith("CONSTRAINT")),
        tail,
    ]


def test_migrations_go_back_to_nothing(where: str) -> None:
    with open_log(where) as log, log.database.writer.begin() as connection:
        config = scripts_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == [VERSION_TABLE]
        assert inspect(connection).get_view_names() == []


def test_a_migration_that_fails_leaves_nothing(path: Path) -> None:
    database = Database(parse_address(path))
    with pytest.raises(ZeroDivisionError), database.writer.begin() as connection:
        migrate(connection)
        raise ZeroDivisionError
    with database.reader.connect() as connection:
        assert inspect(connection).get_table_names() == []


NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9998", "{head}"
def upgrade():
    op.add_column("runs", sa.Column("place", sa.Text()))
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations, which is the one used."""
    folder = tmp_path / "steps"
    shutil.copytree(Path(migrations.__file__).parent, folder)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    monkeypatch.setattr("arena.log.database.scripts_config", lambda: config)
    return folder / "versions"


@pytest.mark.parametrize("create", [True, False])
def test_an_older_layout_is_brought_up_to_date(
    where: str, create: bool, run_info: RunInfo, steps: Path
) -> None:
    with open_log(where) as log:
        log.begin_run(run_info)
    step = steps / "9998_next.py"
    step.write_text(NEXT.replace("{head}", head()))
    with open_log(where, create=create) as log, log.database.reader.connect() as connection:
        row = connection.execute(text("SELECT title, place FROM runs")).one()
        assert tuple(row) == (run_info.title, None)
    step.unlink()
    with pytest.raises(LogError, match="newer version"):
        open_log(where, create=create)


def test_the_next_migration_is_written_from_the_schema(
    path: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = MetaData()
    for table in schema.metadata.sorted_tables:
        table.to_metadata(changed)
    changed.tables["runs"].append_column(Column("place", Text))
    monkeypatch.setattr(schema, "metadata", changed)
    last = int(head())
    script = revise("remember the place")
    assert script.name == f"{last + 1:04}_remember_the_place.py"
    assert script.parent == steps
    steps_up, steps_down = re.findall(r"batch_op\..*", script.read_text())
    assert steps_up == "batch_op.add_column(sa.Column('place', sa.Text(), nullable=True))"
    assert steps_down == "batch_op.drop_column('place')"
    with open_log(path) as log, log.database.reader.connect() as connection:
        assert "place" in {column["name"] for column in inspect(connection).get_columns("runs")}


def test_a_log_of_a_newer_version_is_refused(where: str) -> None:
    with open_log(where) as log, log.database.writer.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for create in (True, False):
        with pytest.raises(
            LogError, match=rf"newer version of this program \(layout 9999, known up to {head()}\)"
        ):
            open_log(where, create=create)


def test_several_may_make_a_log_at_once(where: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for log in list(pool.map(open_log, [where] * 4)):
            log.close()


def test_a_database_with_other_tables_is_refused_and_left_as_it_was(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (id INTEGER)")
        connection.execute("CREATE TABLE people (name TEXT)")
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(LogError, match=r"not a log \(it holds the tables people, runs\)"):
            open_log(path, create=create)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_postgresql_database_with_other_tables_is_refused(postgresql: str) -> None:
    engine = create_engine(postgresql)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE people (name TEXT)"))
    with pytest.raises(LogError, match=r"not a log \(it holds the tables people\)"):
        open_log(postgresql)
    engine.dispose()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(path: Path) -> None:
    path.write_text("not a database " * 100)
    for create in (True, False):
        with pytest.raises(LogError, match="is not a SQLite database"):
            open_log(path, create=create)
    assert path.read_text() == "not a database " * 100


def test_a_missing_log_is_not_made_for_a_question(path: Path) -> None:
    with pytest.raises(LogError, match="there is no log at "):
        open_log(path, create=False)
    assert not path.exists()
    path.touch()
    with pytest.raises(LogError, match="an empty database, not a log"):
        open_log(path, create=False)


def test_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="is a folder"):
        open_log(tmp_path)
    with pytest.raises(LogError, match=r"the folder .*missing for the log x\.db does not exist"):
        open_log(tmp_path / "missing" / "x.db")


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder with a log in it, both of which anybody may read and only root may write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        open_log(folder / "log.db").close()
        (folder / "log.db").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user to whom file permissions apply."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_log_is_read_through_a_link_from_a_folder_that_may_be_written(closed_folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        link = Path(name) / "link.db"
        link.symlink_to(closed_folder / "log.db")
        with without_rights(), open_log(link, create=False) as log:
            assert questions.runs(log) == []


def test_a_log_is_written_through_a_link_from_a_folder_that_may_not(
    closed_folder: Path, run_info: RunInfo
) -> None:
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log.db"
        open_log(log).close()
        for path in (log, log.parent):
            path.chmod(0o777)
        link = closed_folder / "link.db"
        link.symlink_to(log)
        with without_rights(), open_log(link) as opened:
            assert opened.begin_run(run_info) == 1


def test_a_folder_that_cannot_be_written_is_refused(closed_folder: Path) -> None:
    with without_rights():
        with pytest.raises(LogError, match="it cannot be opened; its folder must exist and be readable and"):
            open_log(closed_folder / "new.db")
        said = "it cannot be written; allow writing to it and its folder"
        with open_log(closed_folder / "log.db") as log, pytest.raises(LogError, match=said):
            log.end_run(1)


def test_a_log_that_cannot_be_written_can_be_read(closed_folder: Path) -> None:
    with without_rights(), open_log(closed_folder / "log.db", create=False) as log:
        assert questions.runs(log) == []


@pytest.mark.parametrize("name", ["a b.db", "50%?x=1#y.db", "größe.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    open_log(tmp_path / name).close()
    with open_log(str(tmp_path / name), create=False) as log:
        assert log.name == str(tmp_path / name)
    assert name in {file.name for file in tmp_path.iterdir()}


def test_sqlite_urls_are_paths(tmp_path: Path) -> None:
    open_log(f"sqlite:///{tmp_path / 'x.db'}").close()
    with open_log(tmp_path / "x.db", create=False) as log, log.database.writer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


@pytest.mark.parametrize(
    "wrong", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "mysql://u@h/d", "http://x", "a://b:c:d"]
)
def test_other_places_are_refused(wrong: str) -> None:
    with pytest.raises(LogError, match=r"a log must be a path such as .*, sqlite:///PATH, or postgresql"):
        open_log(wrong)


def test_passwords_are_not_told() -> None:
    address = parse_address("postgresql://me:secret@nowhere.invalid:1/x?connect_timeout=1")
    assert address.url.drivername == "postgresql+psycopg"
    assert "secret" not in address.name
    with pytest.raises(LogError) as told:
        Database(address).prepare(True)
    assert "secret" not in str(told.value)
    assert "nowhere.invalid" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[..., None] = lambda *_: None  # noqa: E731
    monkeypatch.setattr("importlib.util.find_spec", find)
    with pytest.raises(LogError, match=r'pip install "blackbox-arena\[postgresql\]"'):
        open_log("postgresql://me@nowhere.invalid/x")


def test_a_damaged_log_is_told(path: Path, run_info: RunInfo) -> None:
    with open_log(path) as log:
        log.begin_run(run_info)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(0xFF for _ in whole[4096:]))
    with pytest.raises(LogError, match="it is a damaged SQLite database; restore a copy"):
        open_log(path).begin_run(run_info)


def test_a_log_of_layout_0002_learns_radii_and_what_was_asked_for(where: str, begun: Any, made: Any) -> None:
    shard = made()
    with open_log(where) as log:
        with log.shard(begun(log), 0, 0, "f", shard.keys) as recorder:
            shard.tell(recorder)
        with log.shard(begun(log, 1), 0, 0, "f", shard.keys, "changes") as recorder:
            shard.tell(recorder, "changes")
        wanted = questions.asked(log, 1)
        assert wanted and questions.asked(log, 2) == wanted
    config = scripts_config()
    database = Database(parse_address(where))
    with database.writer.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        assert "purposes" not in inspect(connection).get_table_names()
    database.close()
    with open_log(where, create=False) as log:
        untold = [replace(counts, hits=None, outside=None) for counts in wanted]
        assert questions.asked(log, 1) == untold, "every query of the shard is in the log"
        assert questions.asked(log, 2) == [], "at level changes nobody can tell any more"
        assert questions.match(log, 1).info.radii == ()
        log.record_words(1, 0, {"radii": (0.5, float("inf"))})
        assert [m.info.radii for m in questions.matches(log, 1)] == [(0.5, float("inf")), ()]


def test_a_log_of_layout_0003_learns_what_its_runs_consist_of(
    where: str, begun: Any, match_info: MatchInfo, run_info: RunInfo
) -> None:
    numbers: dict[str, Any] = {f.name: 0.5 for f in fields(Utility)}
    numbers |= {"batch": 64, "peak_bytes": 7, "reliability": None, "benign": ()}
    with open_log(where) as log:
        first, second = begun(log, 0), begun(log, 1)
        other = log.begin_run(run_info)
        third = log.begin_match(other, replace(match_info, radii=(0.5, float("inf")), title="x"), fresh=True)
        for images in (100, 500):
            log.record_utility(first, Utility(**numbers | {"images": images}))
        log.record_utility(third, Utility(**numbers | {"images": 60}))
        before = [m for run in (1, other) for m in questions.matches(log, run)]
        assert [m.id for m in before] == [first, second, third]
    config = scripts_config()
    database = Database(parse_address(where))
    with database.writer.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        assert "entries" not in inspect(connection).get_table_names()
        kept = connection.execute(text("SELECT match_id, images FROM utilities ORDER BY match_id")).all()
        assert [tuple(row) for row in kept] == [(first, 500), (third, 60)]
    database.close()
    with open_log(where, create=False) as log:
        found = [m for run in (1, other) for m in questions.matches(log, run)]
        told = (500, 0, 60)
        assert found == [
            replace(m, info=replace(m.info, utility=images)) for m, images in zip(before, told, strict=True)
        ]
        untold = {"images": 60, "input_l2": math.nan, "multiply_adds": math.nan}
        assert repr(questions.utility(log, third, 60)) == repr(Utility(**numbers | untold))


@pytest.mark.parametrize(
    ("reason", "answered", "vote", "facts"),
    [
        ("hit", True, 1.0, True),
        ("hit", True, 0.96, False),
        ("hit", True, 0.0, False),
        ("budget", False, 0.0, True),
        ("budget", False, 1.0, False),
        ("submitted", True, 0.0, True),
        ("submitted", True, 0.5, False),
        ("clean", False, 1.0, True),
    ],
)
def test_a_log_of_layout_0004_tells_by_its_verdicts_whether_answers_are_facts(
    path: Path, begun: Any, made: Any, reason: Any, answered: bool, vote: float, facts: bool
) -> None:
    shard = made(games=2)
    with open_log(path) as log, log.shard(begun(log), 0, 0, "f", shard.keys) as recorder:
        shard.tell(recorder)
    config = scripts_config()
    database = Database(parse_address(path))
    with database.writer.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
        assert "again" not in {column["name"] for column in inspect(connection).get_columns("games")}
        told = {"reason": reason, "answered": answered, "vote": vote}
        connection.execute(text("UPDATE games SET reason = 'budget', answered = false, vote = 0"))
        connection.execute(
            text("UPDATE games SET reason = :reason, answered = :answered, vote = :vote WHERE id = 1"), told
        )
    database.close()
    with open_log(path, create=False) as log:
        assert questions.match(log, 1).info.answers_are_facts is facts
        ended = questions.outcomes(log, 1)
        assert ended.vote.tolist() == [vote, 0]
        assert not (ended.asked_a.any() or ended.wrong_b.any()) and np.isnan(ended.again).all()
