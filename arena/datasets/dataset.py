"""A data set in four disjoint splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

SPLITS = ("train", "calibration", "attackers", "games")


class DatasetError(ValueError):
    """A data set that cannot be used: one sentence on what was wrong, where, and what is allowed."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images that no other split of the data set holds.

    `source` [N,C,H,W] holds the images of all splits, uint8 (0..255) or float32 in [0,1]; `index` [n] int64
    the number within it of each image of this split, and `labels` [n] int64 their classes.
    """

    source: Tensor
    index: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Tensor | slice) -> Tensor:
        """The images [m,C,H,W] float32 in [0,1] at these positions (0..n-1) of the split."""
        images = self.source[self.index[rows]]
        return images if images.is_floating_point() else images.float() / 255

    @property
    def images(self) -> Tensor:
        """All images of the split [n,C,H,W] float32 in [0,1]: a new copy each time."""
        return self.take(slice(None))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: `train` to harden with, `calibration` to tune defenders on, `attackers` for images of
    an attacker's own, `games` to play on."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    calibration: Split
    attackers: Split
    games: Split

    @classmethod
    def cut(
        cls,
        name: str,
        images: Tensor,
        labels: Tensor,
        index: Mapping[str, Tensor],
        class_names: tuple[str, ...] | None = None,
    ) -> Dataset:
        """Cut images [N,C,H,W] (uint8, or float32 in [0,1]) and labels [N] int64 into the four splits.

        `index` gives the numbers of each split's images; they must not meet. Classes without names are named
        by their numbers. Raises DatasetError where a split would be empty.
        """
        numbers = torch.cat([index[split] for split in SPLITS])
        assert len(torch.unique(numbers)) == len(numbers), "splits must be disjoint"
        for split in SPLITS:
            if len(index[split]) == 0:
                raise DatasetError(
                    f"data set {name!r}: {len(labels)} images are too few to fill split {split!r}"
                )
        splits = {split: Split(images, index[split], labels[index[split]]) for split in SPLITS}
        return cls(name, class_names or tuple(map(str, range(int(labels.max()) + 1))), **splits)

    @property
    def splits(self) -> dict[str, Split]:
        return {split: getattr(self, split) for split in SPLITS}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.games.source.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @cached_property
    def sha(self) -> str:
        """SHA-256 over every split's numbers and labels and over the images, as hexadecimal digits."""
        source = self.games.source
        digest = hashlib.sha256(f"{source.dtype} {list(source.shape)}".encode())
        for split, part in self.splits.items():
            digest.update(f"\n{split} {len(part)}\n".encode())
            digest.update(part.index.numpy().data)
            digest.update(part.labels.numpy().data)
        digest.update(source.contiguous().numpy().data)
        return digest.hexdigest()
