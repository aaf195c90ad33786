"""`arena sql`: a table, CSV and JSON; a cut is told, and nothing in a log can control the terminal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def log(replays, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(replays.play(tmp_path_factory.mktemp("sql") / "small.db", games=3, defenders=["none"]))


def test_a_table_is_cut_and_says_so(log: str) -> None:
    code, said = arena("sql", log, "SELECT turn, margin FROM finished_queries", "--rows", "2")
    assert code == 0 and said.splitlines()[0].split() == ["turn", "margin"]
    assert said.splitlines()[-1].startswith("the first 2 rows; there are more")
    code, said = arena("sql", log, "SELECT id, target FROM games LIMIT 1")
    assert said.splitlines()[-1] == "1 row" and "NULL" in said


def test_csv_and_json_hold_all(log: str) -> None:
    wanted = "SELECT id, target, reason, substr(final, 1, 2) AS f FROM games ORDER BY id"
    rows = list(csv.reader(io.StringIO(arena("sql", log, wanted, "--csv")[1])))
    assert rows[0] == ["id", "target", "reason", "f"] and rows[1][1] == "" and rows[1][3] == "7801"
    found = json.loads(arena("sql", log, wanted, "--json")[1])
    assert found["columns"] == rows[0]
    assert [[("" if v is None else str(v)) for v in row] for row in found["rows"]] == rows[1:]
    code, said = arena("sql", log, wanted, "--csv", "--json")
    assert code == 2 and "give one of them" in said


def test_controls_are_blanked_on_the_terminal(log: str) -> None:
    said = arena("sql", log, "SELECT 'a' || char(27) || '[2Jb' || char(10) || 'c' AS \"x" + "\x1b" + 'y"')[1]
    assert "\x1b" not in said and "a [2Jb c" in said


@pytest.mark.parametrize("statement", ["DELETE FROM games", "ATTACH 'x.db' AS x", "SELECT * FROM nowhere"])
def test_what_is_refused_is_one_sentence(log: str, statement: str) -> None:
    code, said = arena("sql", log, statement)
    assert code == 2 and said.startswith("error: log ") and "Traceback" not in said


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    code, said = arena("sql", str(tmp_path / "no.db"), "SELECT 1")
    assert code == 2 and "there is no log" in said
