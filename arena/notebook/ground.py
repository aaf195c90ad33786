"""What the matches of a call are played on: classifier, images and labels as callers give them, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier, ClassifierError
from arena.classifiers.devices import resolve_device, sized
from arena.classifiers.surrogates import Surrogate, surrogate_of
from arena.datasets import Split
from arena.datasets.own_arrays import read_images, read_labels, read_split
from arena.game.openings import ResourcePool
from arena.messages import quoted
from arena.notebook.warning import warn_caller

MOST = 2**24
Pair = tuple[Any, Any]
Model: TypeAlias = nn.Module | Classifier | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """Splits for the players to prepare on: `train` and `calibration` for defenders, `resources` for
    attackers."""

    given: Mapping[str, Split]

    def __getattr__(self, name: str) -> Split:
        if name in ("train", "calibration", "resources") and name in self.given:
            return self.given[name]
        if name in ("train", "calibration"):
            raise ValueError(f"this defender prepares itself on data: pass {name}=(images, labels)")
        raise AttributeError(name)


@dataclass(frozen=True, eq=False)
class Ground:
    """The classifier and the games of a call.

    Attributes:
        x: [G,C,H,W] float32; label: [G]; both on the classifier's device.
        pool: the attackers' own images.
        votes: fresh answers per vote of a random defender.
        shard: how many games are played side by side.
        surrogates: the attackers' reference networks.
        margin_base: whether undefended margins are recorded beside the queries'.
    """

    base: Classifier
    x: Tensor
    label: Tensor
    data: Data
    pool: ResourcePool
    votes: int
    seed: int
    shard: int
    surrogates: tuple[Surrogate, ...] = ()
    margin_base: bool = False

    @property
    def key(self) -> Tensor:
        """[G] the games' numbers, to which draws are keyed."""
        return torch.arange(len(self.x), device=self.x.device)


def ground(
    classifier: Model,
    images: Any,
    labels: Any,
    data: Data,
    device: str,
    batch: int | None,
    *,
    votes: int,
    seed: int,
    shard: int,
    surrogates: Sequence[Model] = (),
    margin_base: bool = False,
) -> Ground:
    """Read and check what `arena.play` was given; arguments as there.

    Raises:
        ValueError: if they do not fit together; the sentence says what is wrong.
    """
    where = resolve_device(device)
    check_counts(votes=votes, shard=shard, batch=1 if batch is None else batch)
    x = read_images(images).to(where)
    y = read_labels(labels, len(x)).to(where)
    base = wrapped(classifier, x, y, where, batch)
    pool = ResourcePool(data.given.get("resources"), base)
    known = _surrogates(surrogates, base, x, where)
    return Ground(base, x, y, data, pool, votes, seed, shard, known, margin_base)


def _surrogates(
    given: Sequence[Model], base: Classifier, x: Tensor, device: torch.device
) -> tuple[Surrogate, ...]:
    if not isinstance(given, list | tuple):
        raise ValueError(f"surrogates must be a list of networks; found {quoted(given)}")
    found = []
    for number, one in enumerate(given, 1):
        try:
            found.append(surrogate_of(Classifier.of(one, sample=x[:1], device=device), base))
        except (ClassifierError, ValueError) as error:
            raise ValueError(f"surrogates: {number}: {error}") from error
    return tuple(found)


def wrapped(classifier: Model, x: Tensor, y: Tensor, device: torch.device, batch: int | None) -> Classifier:
    """The classifier, which answers as many classes as the labels need."""
    base = Classifier.of(classifier, sample=x[:1], device=device)
    if not isinstance(classifier, Classifier):
        for remark in base.remarks:
            warn_caller(remark)
    base = sized(base, batch)
    if int(y.max()) >= base.classes:
        raise ValueError(f"labels go up to {int(y.max())}; the classifier answers {base.classes} classes")
    return base


def data_of(**given: Pair | None) -> Data:
    """Pairs of images and labels by the names of splits."""
    return Data({name: read_split(*pair, name) for name, pair in given.items() if pair is not None})


def check_counts(**counts: Any) -> None:
    """Raises ValueError for one that is no whole number from 1 to `MOST`."""
    for name, count in counts.items():
        if not (is_whole(count) and count >= 1):
            raise ValueError(f"{name} must be a whole number, at least 1; found {quoted(count)}")
        if count > MOST:
            raise ValueError(f"{name} must be at most {MOST:,}; found {quoted(count)}")


def is_whole(count: Any) -> bool:
    return isinstance(count, int | np.integer) and not isinstance(count, bool)
