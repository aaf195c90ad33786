"""The README's attacker, its scenario and its notebook call do what they say (test_docs.py runs the rest)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import arena
from arena.classifiers import ClassifierSpec, load_classifier
from arena.cli.app import app
from arena.datasets import load_dataset

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def block(language: str, start: str) -> str:
    """The README's code block in `language` that holds `start`."""
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.S) if start in b]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "my_attack.py").write_text(block("python", "class Drift"))
    return tmp_path


@pytest.mark.slow
def test_the_attacker_of_ones_own_passes_the_checks(attack: Path) -> None:
    result = CliRunner().invoke(app, ["check", "my_attack:Drift"], catch_exceptions=False)
    assert "all checks passed" in result.output
    assert result.exit_code == 0


@pytest.mark.slow
def test_the_scenario_plays_it_against_the_others(attack: Path) -> None:
    small = "utility = 20\n" + block("toml", "my_attack:Drift").replace("budget = 200", "budget = 100")
    (attack / "my_scenario.toml").write_text(small)
    result = CliRunner().invoke(
        app, ["play", "my_scenario.toml", "--games", "4", "--device", "cpu"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "my_attack:Drift" in result.output.replace("\n", "")


def test_the_notebook_call_works_and_the_attacker_attacks(attack: Path) -> None:
    data = load_dataset("digits")
    names = {
        "model": load_classifier(ClassifierSpec(network="digits-cnn"), data).module,
        "images": data.games.images[:60],
        "labels": data.games.labels[:60],
    }
    exec(compile(block("python", "arena.play("), "README.md", "exec"), names)
    assert names["result"].played.sum() > 50
    strong = arena.play("my_attack:Drift", **_of(names), threat={"epsilon": 0.25, "budget": 200})
    weak = arena.play("my_attack:Drift", **_of(names), threat={"epsilon": 0.02, "budget": 200})
    assert strong.success()[0] > 0.3 > weak.success()[0]
    assert np.abs(strong.images - strong.originals).max() <= 0.25 + 1e-6
    assert isinstance(names["images"], torch.Tensor)


def test_the_environments_are_made() -> None:
    names: dict[str, object] = {}
    exec(compile(block("python", "gymnasium.make("), "README.md", "exec"), names)
    names["env"].reset(seed=0)  # type: ignore[attr-defined]
    observation, _ = names["envs"].reset(seed=0)  # type: ignore[attr-defined]
    assert observation["image"].shape == (64, 1, 8, 8)


def _of(names: dict[str, object]) -> dict[str, object]:
    return {"classifier": names["model"], "images": names["images"], "labels": names["labels"]}
