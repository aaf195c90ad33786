from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import safe_open

from arena.datasets import Dataset
from arena.statistics import wilson
from arena.training import RECIPES, Trained, TrainingError, TrainingJob, card, measure, write_weights
from arena.training import files as files_module
from arena.training.card import is_of


@pytest.fixture
def job(data: Dataset) -> TrainingJob:
    return TrainingJob("digits-cnn", data, RECIPES["digits"].recipe, seed=7)


@pytest.fixture
def trained(job: TrainingJob) -> Trained:
    network, mean, std = job.build()
    return Trained(network.eval(), mean, std, 10, 1)


def test_every_split_is_measured_with_its_interval(job: TrainingJob, trained: Trained) -> None:
    for name, found in measure(trained, job.data).items():
        split = job.data.splits[name]
        right = int((trained.network(split.images).argmax(1) == split.labels).sum())
        low, high = wilson(right, len(split))
        expected = {"images": len(split), "accuracy": right / len(split), "low": low, "high": high}
        assert found == pytest.approx(expected, abs=5e-5)


def test_a_file_knows_its_job(job: TrainingJob, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(path, trained.network, card(job, "digits", trained, {}))
    assert is_of(path, job)
    others = [
        TrainingJob("digits-cnn", job.data, job.recipe, seed=8),
        TrainingJob("digits-cnn", job.data, job.recipe.changed({"rate": 1.0}), seed=7),
        TrainingJob("digits-cnn", job.data, job.recipe, seed=7, params={"classes": 11}),
    ]
    assert not any(is_of(path, other) for other in others)
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == trained.network.state_dict().keys()
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(TrainingError, match="exists and is no weights file"):
        is_of(path, job)


def test_another_code_of_the_network_is_another_job(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    (tmp_path / "edited.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    job, path = (
        TrainingJob("edited:net", data, RECIPES["quick"].recipe, trusted=("edited:net",)),
        tmp_path / "w.safetensors",
    )
    network, mean, std = job.build()
    write_weights(path, network, card(job, "quick", Trained(network, mean, std, 10, 1), {}))
    assert is_of(path, job)
    (tmp_path / "edited.py").write_text(f"{source}# edited\n")
    assert not is_of(path, job)


def test_old_weights_survive_a_full_disk(
    job: TrainingJob, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_weights(path, trained.network, {})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
