"""Labelled images in four disjoint splits, and how they are found."""

from arena.datasets.dataset import Dataset, DatasetError, Split

__all__ = ["Dataset", "DatasetError", "Split"]
