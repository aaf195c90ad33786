"""scikit-learn's digits: 1,797 grey images of 8x8, values 0..16, that need no download."""

from __future__ import annotations

import torch

from arena.datasets.dataset import Dataset
from arena.datasets.order import stratified

COUNTS = {"train": 800, "calibration": 200, "resources": 147, "games": 650}


def digits() -> Dataset:
    """The digits as float32 [1797,1,8,8] (values/16) in a fixed stratified split of 800/200/147/650."""
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 16
    labels = torch.from_numpy(bunch.target).long()
    return Dataset.cut("digits", images, labels, stratified(labels, COUNTS))
