from __future__ import annotations

import platform
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers import devices as devices
from arena.classifiers.devices import default_batch, device_in_words, largest_batch, resolve_device


class Wide(nn.Module):
    """Takes 4 * pixels bytes for the images doubled, and as much again for their squares, at one time."""

    def forward(self, x: Tensor) -> Tensor:
        return (2 * x).square().flatten(1)[:, :2]


def classifier(pixels: int, module: nn.Module | None = None) -> Classifier:
    return Classifier(module or Wide(), shape=(1, 1, pixels), classes=2)


@pytest.mark.parametrize(
    ("pixels", "rows"),
    [(1, 64), (128, 64), (129, 32), (1024, 8), (3 * 1024, 2), (4096, 2), (8192, 1), (9999, 1)],
)
def test_batch_on_the_cpu_is_what_fits(pixels: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CPU_BYTES", 64 * 2**10)
    assert largest_batch(classifier(pixels)) == rows


def test_weights_and_what_is_freed_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.zeros(2**20))

        def forward(self, x: Tensor) -> Tensor:
            kept = self.weight + 1  # type: ignore[operator]
            for _ in range(20):
                x = x + 1
            return x.flatten(1)[:, :2] + kept[:2]

    monkeypatch.setattr(devices, "CPU_BYTES", 64 * 2**10)
    assert largest_batch(classifier(128, Chain())) == 64


def test_a_network_for_one_batch_size_alone_gets_the_default() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, -1)[:, :2]

    class Three(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(3, -1, 5)[:, 0, :2]

    assert largest_batch(classifier(2**20, Three())) == default_batch(torch.device("cpu"))
    assert largest_batch(classifier(5, One())) == default_batch(torch.device("cpu"))


def test_batch_on_a_gpu_is_what_half_of_its_whole_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    held = 3 * 2**20  # by others, or by workspaces that do not grow
    fake: Any = SimpleNamespace(
        device=torch.device("cuda:0"), shape=(3, 2, 2), forward=None, eager=lambda x: None
    )
    for total, per_row, rows in (
        (80 * 2**30, 2**20, 4096),
        (80 * 2**30, 11 * 2**20, 2048),
        (2**30, 2**29, 1),
    ):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda _, t=total: SimpleNamespace(total_memory=t)
        )
        monkeypatch.setattr(devices, "_cuda_peak", lambda _, n, b=per_row: held + n * b)
        assert largest_batch(fake) == rows


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_peak_on_a_gpu_counts_what_a_forward_takes() -> None:
    of = Classifier(Wide(), shape=(1, 1, 2**20), classes=2, device="cuda")
    assert devices._cuda_peak(of, 8) - devices._cuda_peak(of, 4) == 4 * 2**23
    assert largest_batch(of) <= devices.CUDA_ROWS


def test_a_device_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match='there is no device "gpu" here; allowed: "auto", "cpu"'):
        resolve_device("gpu")


def test_what_computes_is_told_without_threads_that_are_not_used() -> None:
    """A pass has its own number, which is logged with each match."""
    assert device_in_words(torch.device("cpu")) == f"cpu ({platform.machine()})"
