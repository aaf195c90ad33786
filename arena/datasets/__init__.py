"""Labelled images in four disjoint splits: how they are found, read and drawn from."""

from arena.datasets.dataset import Dataset, DatasetError, Split
from arena.datasets.draw import Drawn, draw
from arena.datasets.loading import DATASETS, load_dataset
from arena.datasets.source import DatasetSpec

__all__ = ["DATASETS", "Dataset", "DatasetError", "DatasetSpec", "Drawn", "Split", "draw", "load_dataset"]
