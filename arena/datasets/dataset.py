"""A data set in four disjoint splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from arena.messages import UserError

SPLITS = ("train", "calibration", "resources", "games")
# The word that a split had when the weights in use wrote down the SHA of their data, which is to stay.
_HASHED_AS = {"resources": "attackers"}
PIECE = 1024
"""Images hashed at a time."""
MOST_CLASSES = 100_000
"""The most classes of a data set: larger labels are taken for damage, and naming them could fill the
memory."""


class DatasetError(UserError, ValueError):
    """A data set that cannot be used: one sentence on what was wrong, where, and what is allowed."""


class Images(Protocol):
    """Images [N,C,H,W], uint8 (0..255) or float32 in [0,1]: a tensor, or files read when needed."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """The images [n,C,H,W] of these numbers [n] int64, in memory."""


@runtime_checkable
class Stored(Protocol):
    """Images stored outside memory, identified by their stored bytes."""

    def contents(self) -> Iterator[bytes]:
        """All the bytes that determine the images, in order, for a checksum."""

    def only(self, numbers: Tensor, /) -> Images:
        """The images of these numbers [n] and no others, numbered anew from 0."""


@dataclass(frozen=True, eq=False)
class Split:
    """One of the disjoint splits of a data set.

    `source` [N,C,H,W] holds the images of all splits; `index` [n] int64 the number within it of each image of
    this split, and `labels` [n] int64 their classes.
    """

    source: Images
    index: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __add__(self, other: Split) -> Split:
        """The images of both, which must be splits of one data set."""
        assert self.source is other.source, "splits of two data sets"
        numbers, labels = (self.index, other.index), (self.labels, other.labels)
        return Split(self.source, torch.cat(numbers), torch.cat(labels))

    def take(self, rows: Tensor | slice) -> Tensor:
        """The images [m,C,H,W] float32 in [0,1] at these positions (0..n-1) of the split.

        Raises DatasetError if an image lies in a file that cannot be read.
        """
        images = self.source[self.index[rows]]
        return images if images.is_floating_point() else images.float() / 255

    @property
    def images(self) -> Tensor:
        """All images of the split [n,C,H,W] float32 in [0,1]: a new copy each time."""
        return self.take(slice(None))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: `train` to harden with, `calibration` to tune defenders on, `resources` for images of
    an attacker's own, `games` to play on. If a data set has test images, `calibration` and `games` come from
    them, so that a classifier trained on all the others is tuned and attacked on images it has not seen."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    calibration: Split
    resources: Split
    games: Split

    @classmethod
    def cut(
        cls,
        name: str,
        images: Images,
        labels: Tensor,
        index: Mapping[str, Tensor],
        class_names: tuple[str, ...] | None = None,
    ) -> Dataset:
        """Cut images [N,C,H,W] and labels [N] int64 into the four splits.

        `index` gives the numbers of each split's images; they must not overlap. Classes without names are
        named by their numbers. Raises DatasetError if a split would be empty.
        """
        if isinstance(images, Tensor):
            images = images.detach()
        numbers = torch.cat([index[split] for split in SPLITS])
        assert len(torch.unique(numbers)) == len(numbers), "splits must be disjoint"
        for split in SPLITS:
            if len(index[split]) == 0:
                sizes = ", ".join(f"{split} {len(index[split])}" for split in SPLITS)
                raise DatasetError(
                    f"data set {name!r}: {len(labels)} images are too few to fill split {split!r} ({sizes})"
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
        """SHA-256 in hexadecimal over every split's numbers and labels and over the images; for image files,
        over their bytes and the way they are decoded."""
        source = self.games.source
        digest = hashlib.sha256(f"{source.dtype} {list(source.shape)}".encode())
        for split, part in self.splits.items():
            digest.update(f"\n{_HASHED_AS.get(split, split)} {len(part)}\n".encode())
            digest.update(part.index.numpy().data)
            digest.update(part.labels.numpy().data)
        for piece in _contents(source):
            digest.update(piece)
        return digest.hexdigest()


def only(images: Images, numbers: Tensor) -> Images:
    """Of `images` those of these numbers [n] int64 and no others, numbered anew from 0: a copy of those that
    are in memory."""
    return images.only(numbers) if isinstance(images, Stored) else images[numbers]


def _contents(images: Images) -> Iterator[bytes | memoryview]:
    if isinstance(images, Stored):
        yield from images.contents()
    else:
        for rows in torch.split(torch.arange(images.shape[0]), PIECE):
            yield images[rows].numpy().data
