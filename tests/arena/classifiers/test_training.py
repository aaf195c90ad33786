from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from arena.classifiers import Classifier, ClassifierSpec, load_classifier, training
from arena.datasets import Dataset


def test_recipe_gives_the_packaged_classifier(data: Dataset, packaged: Classifier) -> None:
    """On the hardware of the packaged weights the logits are equal bit for bit. Elsewhere rounding drives the
    weights apart as another seed would: then accuracy, 99 % of the labels and the probabilities stay."""
    net = training.train_digits(0, data)
    assert training.accuracy(net, data.games) == pytest.approx(
        training.accuracy(packaged.module, data.games), abs=0.01
    )
    for split in (data.calibration, data.attackers, data.games):
        ours, theirs = (
            Classifier.of(net, sample=split.take(slice(0, 1)))(split.images),
            packaged(split.images),
        )
        assert (ours.argmax(1) == theirs.argmax(1)).double().mean() >= 0.98
        assert (ours.softmax(1) - theirs.softmax(1)).abs().sum(1).mean() <= 0.06


def test_training_depends_on_the_seed_alone(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first = training.train_digits(3, data).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    torch.set_num_threads(2)
    try:
        with torch.inference_mode(False), torch.no_grad():
            second = training.train_digits(3, data).state_dict()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
    other = training.train_digits(4, data).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.3.bias"], other["head.3.bias"])


def test_command_writes_weights_that_load(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)
    path = tmp_path / "w.safetensors"
    training.main([str(path), "--seed", "5"])
    spec = ClassifierSpec(network="digits-cnn", weights=str(path))
    net = training.train_digits(5, data)
    assert load_classifier(spec, data).sha == Classifier(net, shape=data.shape, classes=10).sha
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    assert facts["seed"] == "5"
    assert facts.keys() == {"network", "data", "recipe", "seed", "accuracy", "versions"}


def test_moves_are_the_identity_without_range(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RANGES", (0.0,) * 5)
    x = data.train.take(slice(0, 20))
    assert torch.allclose(training._moved(x), x, atol=1e-5)


def test_shifts_are_in_pixels(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With draws of their upper ends, content moves by whole pixels up and left, zeros coming in."""
    monkeypatch.setattr(training, "RANGES", (0.0, 0.0, 0.0, 1.0, 2.0))
    monkeypatch.setattr(torch, "rand", torch.ones)
    x = data.train.take(slice(0, 20))
    moved = training._moved(x)
    assert torch.allclose(moved[..., :-2, :-1], x[..., 2:, 1:], atol=1e-5)
    assert not moved[..., -2:, :].any()
