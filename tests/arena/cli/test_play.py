"""`arena play` on images in files, one of which cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from arena.cli.app import app
from arena.datasets import DatasetSpec, load_dataset

NETWORK = """
from torch import nn

class Brightest(nn.Module):
    def forward(self, x):
        return 10 * x.mean(dim=(2, 3))
"""
SCENARIO = """
title = "Colours"
dataset = { name = "imagenet", path = "colours", size = 16 }
classifier = { network = "brightest_channel:Brightest" }
games = 4
shard = 2
attackers = ["square"]
defenders = ["none"]
[threat]
epsilon = 0.1
budget = 5
[threat.resources]
starts = true
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds this folder to it
    monkeypatch.delitem(sys.modules, "brightest_channel", raising=False)  # another test's
    (tmp_path / "brightest_channel.py").write_text(NETWORK)
    (tmp_path / "colours.toml").write_text(SCENARIO)
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("1-red", "2-green", "3-blue")):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for n in range(10):
            pixels = rng.integers(0, 100, (20, 24, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(tmp_path / "colours" / name / f"{n}.png")
    return tmp_path


def path_of(folder: Path, split: str, place: int) -> Path:
    """The file of an image of a split."""
    data = load_dataset(DatasetSpec(name="imagenet", path=str(folder / "colours"), size=16))
    files = data.games.source
    return folder / "colours" / files.names[data.splits[split].index[place]]  # type: ignore[attr-defined]


def play(folder: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["play", str(folder / "colours.toml"), "--device", "cpu"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_an_image_unreadable_at_play_is_told_and_the_run_goes_on_once_it_is_mended(folder: Path) -> None:
    path = path_of(folder, "resources", 0)
    whole = path.read_bytes()
    path.write_bytes(b"")
    code, said = play(folder)
    assert code == 1
    assert f"error: {path}: is empty\n" in said
    assert "finished shards are safe in runs/colours.db; the same command goes on from them" in said
    path.write_bytes(whole)
    code, said = play(folder)
    assert code == 0
    assert "log: runs/colours.db" in said


def test_an_unreadable_image_of_a_game_is_told_before_anything_is_played(folder: Path) -> None:
    path = path_of(folder, "games", 1)
    path.write_bytes(path.read_bytes()[:300])
    code, said = play(folder)
    assert code == 2
    assert said.startswith(f"error: {path}: cannot be read as an image: ")
    assert said.count("\n") == 1
    assert not (folder / "runs").exists()


SIZED = (
    SCENARIO.replace("games = 4", 'games = 4\nsize = "small"') + "[sizes.small]\n[sizes.full]\ngames = 6\n"
)


def test_a_size_is_chosen_and_has_a_log_of_its_own(folder: Path) -> None:
    (folder / "sized.toml").write_text(SIZED)
    for words, size, games in (([], "small", 4), (["--size", "full"], "full", 6)):
        result = CliRunner().invoke(app, ["play", "sized.toml", "--device", "cpu", "--dry-run", *words])
        assert result.exit_code == 0, result.output
        assert f"Colours (size {size})" in result.output
        assert f"{games * 5} queries at most" in result.output
    result = CliRunner().invoke(app, ["play", "sized.toml", "--device", "cpu", "--size", "full"])
    assert result.output.endswith("log: runs/sized-full.db\n")
    result = CliRunner().invoke(app, ["report", "runs/sized-full.db"])
    assert "<h1>Colours (size full)</h1>" in (folder / "runs" / "sized-full.html").read_text()


def test_a_size_that_is_not_there_is_told_in_one_sentence(folder: Path) -> None:
    (folder / "sized.toml").write_text(SIZED)
    for file, size, said in (
        ("sized.toml", "ful", 'there is no size "ful"; did you mean "full"? allowed: full, small'),
        ("colours.toml", "full", 'there is no size "full": the scenario has no sizes'),
    ):
        result = CliRunner().invoke(app, ["play", file, "--size", size])
        assert result.exit_code == 2
        assert result.output == f"error: {file}: {said}\n"


def test_what_the_log_held_already_is_told(folder: Path) -> None:
    code, said = play(folder)
    assert code == 0
    assert "already" not in said
    assert "runs/colours.db holds this run already (run 1); --fresh plays it again\n" in play(folder)[1]
    added = SCENARIO.replace('["square"]', '["square", "random-search"]')
    (folder / "colours.toml").write_text(added)
    code, said = play(folder)
    assert code == 0, said
    assert "runs/colours.db held 4 of the 8 games already\n" in said
    (folder / "brightest_channel.py").write_text(NETWORK + "# another\n")
    assert "already" not in play(folder)[1]
