"""`arena train` as a user types it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from arena.classifiers import ClassifierSpec, load_classifier
from arena.cli.app import app
from arena.datasets import load_dataset
from arena.provenance import versions

LONG = "w" * 240
"""A name that may just be used, and no other beside it."""
TRAIN = ("train", "digits-cnn", "digits", "--device", "cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def start(children: Any) -> Callable[..., Any]:
    """Trains in a process of its own: three epochs, a checkpoint after every step."""
    words = (*TRAIN, "--epochs", "3", "--every", "0", "--out")
    command = "from arena.cli.app import main; main()"
    return lambda out, *more, **options: children.start(command, *words, out, *more, COLUMNS="200", **options)


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, result.output


def test_weights_have_a_card_and_load_as_they_were_measured() -> None:
    extra = ("--epochs", "2", "--seed", "5", "--set", "normalise=train", "--set", "augment=shift")
    code, said = arena(*TRAIN, *extra)
    assert code == 0, said
    assert "epoch   2/2" in said and "weights: weights/digits_cnn_digits.safetensors" in said
    (path,) = Path("weights").iterdir()
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    recipe, accuracy = json.loads(facts["recipe"]), json.loads(facts["accuracy"])
    assert (facts["network"], facts["dataset"], facts["seed"], facts["epochs"]) == (
        "digits-cnn",
        "digits",
        "5",
        "2",
    )
    assert (facts["recipe_name"], recipe["epochs"], recipe["augment"]) == ("digits, changed", 2, "shift")
    assert json.loads(facts["splits"])["games"] == 650 and json.loads(facts["params"]) == {"classes": 10}
    assert json.loads(facts["versions"]) == versions()
    data = load_dataset("digits")
    assert facts["dataset_sha"] == data.sha
    classifier = load_classifier(ClassifierSpec(network="digits-cnn", weights=str(path)), data)
    right = (classifier(data.games.images).argmax(1) == data.games.labels).double().mean()
    assert float(right) == pytest.approx(accuracy["games"]["accuracy"], abs=5e-5)
    assert accuracy["games"]["low"] < float(right) < accuracy["games"]["high"]

    before = path.read_bytes()
    code, said = arena(*TRAIN, *extra)
    assert code == 0 and "holds this training already" in said and path.read_bytes() == before
    code, said = arena(*TRAIN, "--epochs", "1")
    assert code == 2 and "holds the weights of another training; --fresh replaces them" in said
    code, said = arena(*TRAIN, "--epochs", "1", "--fresh")
    assert code == 0 and path.read_bytes() != before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "digits-cnn", "digit"), 'there is no data set "digit"; did you mean "digits"'),
        (("train", "digit-cnn", "digits"), 'there is no network "digit-cnn"; did you mean "digits-cnn"'),
        (("train", "resnet20", "digits"), 'network "resnet20" does not fit data set "digits"'),
        ((*TRAIN, "--recipe", "digit"), 'there is no recipe "digit"; did you mean "digits"'),
        ((*TRAIN, "--set", "rat=1"), 'recipe: rat: there is no such key; did you mean "rate"'),
        ((*TRAIN, "--set", "rate"), "--set: found 'rate'; it must be KEY=VALUE"),
        ((*TRAIN, "--epochs", "0"), "recipe: epochs: found 0"),
        ((*TRAIN, "--epochs", "2", "--set", "epochs=3"), "--epochs 2 and --set epochs=3 are both given"),
        ((*TRAIN, "--param", "dropout=1"), "digits-cnn"),
        ((*TRAIN, "--out", "."), "--out: . is a folder"),
        ((*TRAIN, "--out", "text/w"), "text is no folder"),
        ((*TRAIN, "--out", "text"), "text exists and is no weights file"),
        ((*TRAIN, "--out", f"{LONG}.safetensors"), f"--out: {LONG}.safetensors has a name longer"),
        (
            (*TRAIN, "--out", "w.pth"),
            "a weights file must end in .safetensors; found w.pth",
        ),
        (("train", "digits-cnn", "digits", "--device", "gpu"), 'there is no device "gpu" here'),
        ((*TRAIN, "--set", "precision=bf16"), 'precision: found "bf16" on cpu'),
        ((*TRAIN, "--set", "optimiser=sgd", "--set", "rate=1e30"), "the loss is no longer finite in epoch 1"),
    ],
)
def test_a_mistake_gets_a_sentence(folder: Path, words: tuple[str, ...], said: str) -> None:
    Path("text").write_text("no weights")
    code, output = arena(*words)
    assert code == 2 and said in output.replace("\n", "") and "Traceback" not in output
    assert not [*folder.rglob("*.safetensors"), *folder.rglob("*.pth"), *folder.rglob("*.part")]


def test_a_folder_that_cannot_be_written_is_told_before_training(folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o555)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write into every folder")
    code, said = arena(*TRAIN, "--out", "locked/w.safetensors")
    assert code == 2 and "--out: locked/w.safetensors cannot be written: Permission denied" in said
    assert "epoch" not in said


@pytest.mark.slow
def test_killed_and_gone_on_gives_the_bits_of_an_uninterrupted_run(start: Callable[..., Any]) -> None:
    checkpoint = Path("killed.safetensors.checkpoint")
    killed = start("killed.safetensors", "--set", "batch=10")
    killed.wait_until(checkpoint.exists)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not Path("killed.safetensors").exists()

    code, said = arena(
        *TRAIN, "--epochs", "3", "--set", "batch=10", "--out", "killed.safetensors", "--seed", "1"
    )
    assert code == 2 and "is of another training, with seed 0, not 1; --fresh starts over" in said.replace(
        "\n", ""
    )
    code, said = arena(*TRAIN, "--epochs", "3", "--set", "batch=10", "--out", "killed.safetensors")
    assert code == 0 and "going on after step" in said and not checkpoint.exists()
    code, _ = arena(*TRAIN, "--epochs", "3", "--set", "batch=10", "--out", "whole.safetensors")
    assert code == 0
    ours, whole = load_file("killed.safetensors"), load_file("whole.safetensors")
    assert ours.keys() == whole.keys() and all(torch.equal(ours[key], whole[key]) for key in whole)
    assert [path.name for path in Path().iterdir() if "part" in path.name] in (
        [],
        ["killed.safetensors.part"],
    )


@pytest.mark.parametrize(
    ("number", "by"), [(signal.SIGINT, ""), (signal.SIGTERM, " (SIGTERM)"), (signal.SIGHUP, " (SIGHUP)")]
)
def test_a_signal_keeps_all_steps_and_says_how_to_go_on(
    start: Callable[..., Any], number: signal.Signals, by: str
) -> None:
    child = start("w.safetensors", "--set", "batch=1")
    child.wait_until(Path("w.safetensors.checkpoint").exists)
    child.send_signal(number)
    assert child.wait() == 128 + number
    assert f"interrupted{by}: the same command goes on from w.safetensors.checkpoint" in child.errors
    assert "Traceback" not in child.errors and Path("w.safetensors.checkpoint").exists()


@pytest.mark.slow
def test_a_full_disk_ends_with_a_sentence(start: Callable[..., Any]) -> None:
    child = start("w.safetensors", largest_file=100_000)
    assert child.wait() == 1
    errors = child.errors
    assert "no checkpoint could be written: File too large; the training goes on" in errors
    assert "error: w.safetensors cannot be written: File too large; no checkpoint was written" in errors
    assert "Traceback" not in errors and not list(Path().iterdir())
