"""`arena runs`, `arena compare` and `arena export` on a log that was played."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import open_log, questions

SCENARIO = """
title = "Small"
games = 6
utility = 0
at = [5]
attackers = [{ name = "square", p = 0.3 }]
defenders = ["none", { name = "snd", sigma = 0.05 }]
[threat]
epsilon = 0.2
budget = 20
"""


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two runs: the second has another budget against `snd` alone, and `rays` besides."""
    folder = tmp_path_factory.mktemp("log")
    file, path = folder / "small.toml", str(folder / "small.db")
    file.write_text(SCENARIO)
    words = ("play", str(file), "--log", path, "--device", "cpu")
    assert arena(*words)[0] == 0
    assert (
        arena(*words, "--defender", "snd:sigma=0.01", "--defender", "none", "--add-attacker", "rays")[0] == 0
    )
    return path


def test_runs_are_listed(log: str) -> None:
    code, said = arena("runs", log)
    assert code == 0
    assert "Small (attackers and defenders changed)" in said
    one, other = json.loads(arena("runs", log, "--json")[1])
    assert (one["id"], one["scenario"], one["title"]) == (1, "small", "Small")
    assert (one["done"], one["planned"], other["done"], other["planned"]) == (2, 2, 4, 4)
    assert one["games"] == 12 and other["games"] == 24
    assert one["started"].endswith("Z") and one["ended"].endswith("Z")
    with open_log(log, create=False) as book:
        queries = sum(int(questions.outcomes(book, m.id).queries.sum()) for m in questions.matches(book, 1))
    assert one["queries"] == queries > 0


def test_two_runs_are_compared(log: str) -> None:
    code, said = arena("compare", log, "1", "2")
    assert code == 0
    assert "square vs none\n  the same match of the log in both runs" in said
    assert "square vs snd, at 20 queries: 6 games in both" in said
    assert "defenders.sigma: A 0.05, B 0.01" in said
    assert "only in B: rays vs none" in said
    found = json.loads(arena("compare", log, "1", "2", "--json")[1])
    assert [pair["same_match"] for pair in found["pairs"]] == [True, False]
    pair = found["pairs"][1]
    assert {"key": "defenders.sigma", "a": 0.05, "b": 0.01} in found["differs"]
    assert {d["what"] for d in pair["differences"]} >= {"answered", "vote", "base"}
    assert all(d["low"] <= d["difference"] <= d["high"] for d in pair["differences"])
    code, said = arena("compare", log, "1", "3")
    assert code == 2 and "has no run 3; it holds 1, 2" in said


def test_tables_are_exported_as_csv_and_nothing_is_replaced_unasked(log: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    code, said = arena("export", log, "--out", str(folder))
    assert code == 0, said
    with (folder / "games.csv").open(newline="") as file:
        games = list(csv.DictReader(file))
    with open_log(log, create=False) as book:
        outcomes = questions.outcomes(book, 1)
    own = [row for row in games if row["match_id"] == "1"]
    assert [int(row["image"]) for row in own] == outcomes.image.tolist()
    assert [row["reason"] for row in own] == list(outcomes.reason)
    assert [row["answered"] == "True" for row in own] == outcomes.answered.tolist()
    assert [float(row["linf"] or "inf") for row in own] == outcomes.linf.tolist()
    assert "final" not in games[0]
    with (folder / "matches.csv").open(newline="") as file:
        assert json.loads(next(csv.DictReader(file))["threat"])["budget"] == 20
    code, said = arena("export", log, "--out", str(folder))
    assert code == 2 and "is not empty; --force replaces files" in said
    assert arena("export", log, "--out", str(folder), "--force", "--run", "1")[0] == 0
    with (folder / "runs.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["1"]
    assert not list(folder.glob("*.part"))


def test_chosen_tables_and_all_final_images_of_a_run_are_exported(log: str, tmp_path: Path) -> None:
    words = ("--run", "1", "--format", "json", "--table", "games", "--table", "utilities")
    code, said = arena("export", log, "--out", str(tmp_path), *words, "--images", "png", "--images", "npz")
    assert code == 0, said
    assert {path.name for path in tmp_path.iterdir()} == {"games.json", "utilities.json", "images"}
    assert json.loads((tmp_path / "utilities.json").read_text()) == []
    games = {row["id"]: row for row in json.loads((tmp_path / "games.json").read_text())}
    with open_log(log, create=False) as book:
        for match in (1, 2):
            finals = np.load(tmp_path / "images" / f"match-{match}.npz")
            assert len(finals["game"]) == 6 == len(list((tmp_path / "images" / f"match-{match}").iterdir()))
            for place, game_id in enumerate(finals["game"].tolist()):
                expected = questions.game(book, game_id)
                np.testing.assert_array_equal(finals["final"][place], expected.final)
                assert games[game_id]["image"] == expected.image == finals["image"][place]
                with Image.open(tmp_path / "images" / f"match-{match}" / f"game-{game_id}.png") as shown:
                    assert np.abs(np.asarray(shown) / 255 - expected.final[0]).max() <= 0.5 / 255 + 1e-6


def test_parquet_has_the_types_of_the_log(log: str, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    code, said = arena("export", log, "--out", str(tmp_path), "--format", "parquet")
    assert code == 0, said
    games = pd.read_parquet(tmp_path / "games.parquet")
    assert str(games["answered"].dtype) == "bool" and str(games["queries"].dtype) == "int64"
    assert games["hit_at"].isna().any()
    queries = pd.read_parquet(tmp_path / "queries.parquet")
    assert queries.groupby("game_id").size().sum() == games["queries"].sum()


def test_what_cannot_be_exported_is_told(log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    for words, said in (
        (("--format", "parqet"), '--format: found "parqet"; did you mean "parquet"?'),
        (("--table", "game"), '--table: found "game"; did you mean "games"?'),
        (("--images", "jpg"), '--images: found "jpg"; '),
        (("--run", "9"), "has no run 9; it holds 1, 2"),
        (("--out", str(tmp_path / "file")), "is a file; it must be a folder"),
    ):
        code, output = arena("export", log, *words)
        assert code == 2 and said in output.replace("\n", ""), output
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, output = arena("export", log, "--format", "parquet", "--out", str(tmp_path / "new"))
    assert code == 2 and 'pip install "blackbox-arena[tables]"' in output
    assert not (tmp_path / "new").exists() and (tmp_path / "file").read_text() == "mine"
