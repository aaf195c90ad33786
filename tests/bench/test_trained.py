from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from arena.evaluation.clean_images import Evaluation
from arena.game.stack import Stack
from bench.trained import LOSSES, Trainings, main, plans
from bench.worlds import load_world


@pytest.fixture(scope="module")
def digits() -> Trainings:
    """The digits in MNIST's place, which need no files."""
    world = load_world("digits", 1, ())
    return Trainings("mnist", world.classifier, world.dataset, images=60, short=True)


def figure(text: str) -> float:
    return float(text.partition(" ")[0])


def test_each_world_trains_each_defense() -> None:
    assert set(plans("mnist")) == set(plans("resnet20"))
    assert {"pgd-at", "trades", "rse", "pni", "distillation"} <= set(plans("mnist"))


def test_a_training_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "trade"])
    assert "invalid choice: 'trade'" in capsys.readouterr().err


def test_a_row_says_what_a_training_costs_and_leaves(digits: Trainings) -> None:
    row = replace(digits, seconds=7.4).row("undefended", ())
    assert list(row) == ["training", "s", "clean", "ECE", "pgd 0.1", "pgd 0.2", "pgd 0.3"]
    left = [figure(str(row[f"pgd 0.{n}"])) for n in (1, 2, 3)]
    assert row["s"] == 7
    assert figure(str(row["clean"])) > 98 and left[0] > left[2] and left[2] < 10


def test_an_image_that_is_wrong_before_anybody_attacks_is_lost(digits: Trainings) -> None:
    stack, split = Stack(digits.classifier), digits.dataset.games
    wrong = digits.classifier(split.images).argmax(1) != split.labels
    assert wrong.any()
    every = replace(digits, images=len(split))
    right = 100 * Evaluation(digits.classifier, split, images=len(split)).of(stack, cost=False).accuracy
    assert figure(every.left(stack, 1e-7)) == pytest.approx(right, abs=0.05)


def test_the_worse_of_two_losses_counts(digits: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {"cross-entropy": torch.tensor([1.0, 0, 0, 0]), "margin": torch.tensor([0.0, 0, 1, 0])}
    monkeypatch.setattr(Trainings, "_lost", lambda self, stack, epsilon, loss: lost[loss].numpy())
    assert set(LOSSES) == set(lost)
    assert figure(digits.left(Stack(digits.classifier), 0.1)) == 50.0


def test_trainings_follow_each_other_and_defenders_prepare_themselves(
    digits: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe, *_ = plans("mnist")["gaussian-augmentation"]
    once, twice = digits.stack((recipe,))[0].base, digits.stack((recipe, recipe))[0].base
    x = digits.dataset.games.take(slice(0, 8))
    assert not torch.equal(once(x), twice(x)) and not torch.equal(once(x), digits.classifier(x))
    stack, seconds = digits.stack({"name": "rse", "epochs": 40})
    assert stack.random and seconds > 0
