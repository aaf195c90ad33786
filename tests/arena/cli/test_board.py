"""`arena board` on logs that were played."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app

SCENARIO = """
title = "Small"
games = 8
utility = 40
at = [5]
attackers = [{ name = "square", p = 0.3 }, "rays"]
defenders = ["none", { name = "snd", sigma = 0.05 }]
[threat]
epsilon = 0.2
budget = 20
objective = "submit"
"""


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, result.output


def plain(said: str) -> str:
    return " ".join(said.split())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    file, path = folder / "small.toml", folder / "small.db"
    file.write_text(SCENARIO)
    assert arena("play", str(file), "--log", str(path), "--device", "cpu")[0] == 0
    return path


@pytest.fixture(scope="module")
def other(log: Path) -> Path:
    """The same games of one pair with another seed, in a log of their own."""
    file, path = log.with_name("other.toml"), log.with_name("other.db")
    file.write_text(SCENARIO.replace("games = 8", "games = 8\nseed = 5"))
    words = ("--attacker", "square:p=0.3", "--defender", "none")
    assert arena("play", str(file), "--log", str(path), "--device", "cpu", *words)[0] == 0
    return path


def test_a_board_is_printed_and_its_page_lies_beside_the_log(log: Path) -> None:
    code, said = arena("board", str(log))
    assert code == 0, said
    page = log.with_name("small-board.html")
    assert f"page: {page}" in said
    told = plain(said)
    for part in ("Board: Small", "at 20 queries", "square", "snd", "worst case", "also at 5 queries"):
        assert part in told
    text = page.read_text(encoding="utf-8")
    assert "Board: Small" in text and "data:image/png;base64," in text
    assert not list(log.parent.glob("*.part"))


def test_tables_and_json_say_what_the_log_holds(log: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"board.{kind}" for kind in ("csv", "json", "html")}
    words = ("--csv", str(files["csv"]), "--json", str(files["json"]), "--out", str(files["html"]))
    code, said = arena("board", str(log), *words, "--title", "Mine")
    assert code == 0, said
    with files["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["at"] for row in rows} == {"5", "20"}
    assert {(row["attacker"], row["defender"]) for row in rows} == {
        (a, d) for a in ("square", "rays") for d in ("none", "snd")
    }
    told = json.loads(files["json"].read_text())
    assert told["title"] == "Mine"
    cells = {(m["at"], c["attacker"], c["defender"]): c for m in told["matrices"] for c in m["cells"]}
    for row in rows:
        cell = cells[int(row["at"]), row["attacker"], row["defender"]]
        assert float(row["left"]) == cell["left"][row["verdict"]]["value"]
        assert (row["headline"] == "True") == (row["verdict"] == cell["verdict"])
    facts = cells[20, "square", "snd"]["facts"][0]
    assert facts["attacker_params"]["p"] == 0.3 and facts["log"] == str(log)
    with (tmp_path / "board-ranks.csv").open(newline="") as file:
        sides = [(row["side"], row["agent"]) for row in csv.DictReader(file) if row["at"] == "20"]
    assert len(sides) == 4


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")
def test_parquet_holds_the_same_rows(log: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    words = ("--csv", str(tmp_path / "b.csv"), "--parquet", str(tmp_path / "b.parquet"))
    code, said = arena("board", str(log), *words, "--out", str(tmp_path / "b.html"))
    assert code == 0, said
    with (tmp_path / "b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert [row["attacker"] for row in table] == [row["attacker"] for row in rows]
    assert [row["left"] for row in table] == [float(row["left"]) for row in rows]
    assert (
        pq.read_table(tmp_path / "b-ranks.parquet").num_rows
        == sum(1 for _ in (tmp_path / "b-ranks.csv").open()) - 1
    )


def test_one_count_one_threat_and_caps_can_be_asked_for(log: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "b.html"))
    code, said = arena("board", str(log), "--at", "5", "--threat", "norm=linf", "--knowledge", "none", *out)
    assert code == 0 and "at 5 queries" in plain(said) and "also at" not in said
    code, said = arena("board", str(log), "--cap-accuracy", "2", "--cap-delay", "5", *out)
    assert code == 0, said


def test_logs_are_merged_and_further_draws_are_further_games(log: Path, other: Path, tmp_path: Path) -> None:
    files = ("--out", str(tmp_path / "b.html"), "--json", str(tmp_path / "b.json"))
    code, said = arena("board", str(log), str(other), *files)
    assert code == 0, said
    cells = json.loads((tmp_path / "b.json").read_text())["matrices"][0]["cells"]
    both = next(c for c in cells if (c["attacker"], c["defender"]) == ("square", "none"))
    alone = next(c for c in cells if (c["attacker"], c["defender"]) == ("rays", "none"))
    assert [facts["log"] for facts in both["facts"]] == [str(log), str(other)]
    assert len(alone["facts"]) == 1 and both["games"] > alone["games"]
    assert str(other) in (tmp_path / "b.html").read_text(encoding="utf-8")


def test_a_copy_of_a_log_adds_nothing_and_one_that_contradicts_it_is_a_conflict(
    log: Path, tmp_path: Path
) -> None:
    import sqlite3

    copy, out = tmp_path / "copy.db", ("--out", str(tmp_path / "b.html"))
    shutil.copy(log, copy)
    code, said = arena("board", str(log), str(copy), *out)
    assert code == 0 and "came out otherwise" not in (tmp_path / "b.html").read_text(encoding="utf-8")
    with sqlite3.connect(copy) as changed:
        changed.execute("UPDATE games SET answered = NOT answered, queries = queries + 1 WHERE match_id = 1")
    code, said = arena("board", str(log), str(copy), *out)
    assert code == 0, said
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "Logs contradict each other here" in page and "came out otherwise in run 1 of" in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--at", "7"], "--at: no match reports verdicts at 7 queries; there are 5, 20"),
        (["--knowledge", "defence"], 'no match was played with "defence"'),
        (["--threat", "nrom=l2"], 'did you mean "norm"?'),
        (["--run", "9"], "has no run 9; allowed: 1"),
        (["--out", "x.html", "--csv", "x.html"], "x.html would be written twice"),
        (["--csv", "/proc/nowhere/b.csv"], "/proc/nowhere"),
    ],
)
def test_what_is_wrong_is_one_sentence(log: Path, words: list[str], says: str) -> None:
    code, said = arena("board", str(log), *words)
    assert code == 2 and says in plain(said), said
    assert said.strip().startswith("error:")


def test_logs_without_games_twice_the_same_or_missing_are_told(log: Path, tmp_path: Path) -> None:
    from arena.log import open_log

    with open_log(tmp_path / "empty.db"):
        pass
    code, said = arena("board", str(tmp_path / "empty.db"))
    assert code == 2 and "has a finished shard; play it first" in plain(said)
    code, said = arena("board", str(log), str(log))
    assert code == 2 and "is given twice" in plain(said)
    assert arena("board", str(tmp_path / "none.db"))[0] == 2
    code, said = arena("board", str(log), str(tmp_path / "empty.db"), "--run", "1")
    assert code == 2 and "name that log alone" in plain(said)


def test_without_pyarrow_parquet_is_refused_before_anything_is_read(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    code, said = arena("board", str(log), "--parquet", str(tmp_path / "b.parquet"))
    assert code == 2 and "--parquet needs pyarrow" in plain(said)


@pytest.fixture(scope="module")
def submission(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submissions") / "theirs"
    folder.mkdir()
    (folder / "small.toml").write_text(SCENARIO.replace("games = 8", "games = 8\nshard = 4"))
    (folder / "card.toml").write_text(
        f'agent = "square"\npaper = "Andriushchenko et al., 2020"\ncode = "{"0123456789" * 4}"\n'
    )
    words = ("play", str(folder / "small.toml"), "--log", str(folder / "log.db"), "--device", "cpu")
    assert arena(*words)[0] == 0
    return folder


def test_a_submission_is_checked_and_its_log_is_part_of_the_board(
    submission: Path, log: Path, tmp_path: Path
) -> None:
    words = ("--submit", str(submission), "--sample", "1", "--seed", "0", "--out", str(tmp_path / "b.html"))
    code, said = arena("board", *words, "--json", str(tmp_path / "b.json"))
    assert code == 0, said
    assert "bit for bit: 1 of" in plain(said) and "at 20 queries" in plain(said)
    told = json.loads((tmp_path / "b.json").read_text())
    (own,) = told["submissions"]
    assert (own["status"], own["agent"], own["log"]) == ("bit for bit", "square", "theirs/log.db")
    assert told["matrices"][0]["cells"][0]["facts"][0]["log"] == "theirs/log.db"
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "Andriushchenko et al., 2020" in page and "theirs/log.db" in page and "arena-strangers" not in page


def test_a_submission_that_failed_is_told_and_left_out(submission: Path, log: Path, tmp_path: Path) -> None:
    import sqlite3

    forged = tmp_path / "forged"
    shutil.copytree(submission, forged)
    with sqlite3.connect(forged / "log.db") as changed:
        changed.execute("UPDATE games SET answered = NOT answered")
    words = ("--submit", str(forged), "--sample", "1", "--out", str(tmp_path / "b.html"))
    code, said = arena("board", *words)
    assert code == 1 and "no board is made: no submission came through" in plain(said)
    code, said = arena("board", str(log), *words, "--json", str(tmp_path / "b.json"))
    assert code == 1 and f"page: {tmp_path / 'b.html'}" in said
    told = json.loads((tmp_path / "b.json").read_text())
    assert told["submissions"][0]["status"] == "failed"
    assert {facts["log"] for cell in told["matrices"][0]["cells"] for facts in cell["facts"]} == {str(log)}


def test_a_board_needs_a_log_or_a_submission(tmp_path: Path) -> None:
    code, said = arena("board")
    assert code == 2 and "name one or several, or a submission by --submit FOLDER" in plain(said)
    code, said = arena("board", "--submit", str(tmp_path / "nowhere"))
    assert code == 2 and "there is no folder" in plain(said)


def test_further_games_are_played_until_ranks_are_settled_and_the_secret_is_published(tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_text("0123456789abcdef\n")
    file, path, page = tmp_path / "small.toml", tmp_path / "small.db", tmp_path / "small.html"
    file.write_text(SCENARIO.replace('"rays"', "") + "\n[limits]\nnotes = 10\n")
    words = ("--device", "cpu", "--secret-seed", str(secret))
    scenario = file.read_text().replace("games = 8", 'games = 8\nisolation = "none"')
    file.write_text(scenario)
    assert arena("play", str(file), "--log", str(path), *words)[0] == 0

    code, said = arena("board", str(path), "--out", str(page), "--spend", "480", *words)

    assert code == 0, said
    assert "part 1 of 4: " in plain(said)
    assert "0123456789abcdef" in page.read_text()
    again = arena("board", str(path), "--out", str(page), "--spend", "480", *words)[1]
    assert "games for the open ranks" not in plain(again), "they are played once"
    code, said = arena("board", str(path), "--out", str(page), "--spend", "100", *words)
    assert code == 2
    assert "holds 480 further games" in plain(said)
    (other := tmp_path / "other").write_text("fedcba9876543210")
    code, said = arena("board", str(path), "--out", str(page), "--secret-seed", str(other))
    assert code == 2
    assert "was played with another" in plain(said)
