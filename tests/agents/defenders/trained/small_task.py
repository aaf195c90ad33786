"""A small network and a task that it learns in a moment."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.datasets import Split

SHAPE = (1, 6, 6)


class Parts:
    """Images whose class is where they are bright: left, right or in the middle."""

    def __init__(self, n: int = 384, seed: int = 1) -> None:
        draw = torch.Generator().manual_seed(seed)
        labels = torch.randint(3, (n,), generator=draw)
        x = 0.4 * torch.rand(n, *SHAPE, generator=draw)
        for row, label in enumerate(labels):
            x[row, :, :, 2 * int(label) : 2 * int(label) + 2] += 0.5
        self.train = Split(x, torch.arange(n), labels)
        self.calibration = Split(x[:64].clone(), torch.arange(64), labels[:64].clone())


def small(batch_norm: bool = True) -> Classifier:
    """Two convolutions and a dense layer, untrained."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4) if batch_norm else nn.Identity()
    layers = (nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    return Classifier(nn.Sequential(*layers, nn.Linear(16, 3)).eval(), shape=SHAPE, classes=3)


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(1) == labels).float().mean())
