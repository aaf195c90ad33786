"""The games of a shard: images, labels, targets, and what their attacker owns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from arena import draws
from arena.classifiers import Classifier
from arena.classifiers.served import asking
from arena.datasets import Split
from arena.players.seat import Resources
from arena.rules.outcome import labels_of, wins
from arena.rules.threat import Threat


@dataclass(frozen=True, eq=False)
class Openings:
    """The games of a shard.

    Attributes:
        x0: [G,C,H,W] clean images; label: [G] true labels; key: [G] the images' numbers in the data set;
            target: [G] or None.
        number: [G] the games' numbers, to which the draws of players are keyed; None: those of the images.
    """

    x0: Tensor
    label: Tensor
    key: Tensor
    target: Tensor | None = None
    number: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x0)

    def __getitem__(self, rows: Tensor | slice) -> Openings:
        target, number = (None if one is None else one[rows] for one in (self.target, self.number))
        return Openings(self.x0[rows], self.label[rows], self.key[rows], target, number)

    @property
    def numbers(self) -> Tensor:
        """[G] the games' numbers."""
        return self.key if self.number is None else self.number


def draw_targets(threat: Threat, label: Tensor, key: Tensor, classes: int, seed: int) -> Tensor | None:
    """Target labels [G] as the threat says, from the scenario's seed and the image's number alone."""
    if not threat.targeted:
        return None
    if threat.targets == "next":
        return (label + 1) % classes
    offset = draws.integers(classes - 1, draws.derive(seed, "targets"), key, 0, ()) + 1
    return (label + offset) % classes


class ResourcePool:
    """The images that attackers may be granted, and what a classifier answers on them.

    Attributes:
        split: they and their labels; None where there are none.
    """

    def __init__(self, split: Split | None, classifier: Classifier) -> None:
        self.split, self.classifier = split, classifier

    def __len__(self) -> int:
        return 0 if self.split is None else len(self.split)

    @cached_property
    @asking("resources")
    def answered(self) -> Tensor:
        """[n] int64, the classifier's label of every image, -1 for no answer: asked once, in pieces."""
        split, device = self.split, self.classifier.device
        assert split is not None
        rows = torch.split(torch.arange(len(split)), self.classifier.batch)
        return torch.cat([labels_of(self.classifier(split.take(piece).to(device))) for piece in rows])


def check_resources(threat: Threat, pool: ResourcePool) -> None:
    """Raises ValueError if the pool holds too few images for the threat's resources."""
    wanted = threat.resources
    if (wanted.images or wanted.starts) and len(pool) < max(1, wanted.images):
        raise ValueError(
            f"resources grant the attacker {wanted.images:,} images; its split holds {len(pool):,}"
        )


def draw_resources(
    threat: Threat,
    pool: ResourcePool,
    openings: Openings,
    seed: int,
    surrogates: tuple[nn.Module, ...] = (),
) -> Resources:
    """What the threat's resources grant the attacker. No other images of the pool are held than these.

    Args:
        surrogates: the reference networks that the threat names, in its order.

    Raises:
        ValueError: if the pool holds too few images.
    """
    wanted, device = threat.resources, openings.x0.device
    if not wanted.images and not wanted.starts:
        return Resources(surrogates=surrogates)
    check_resources(threat, pool)
    assert pool.split is not None
    granted = slice(0, wanted.images)
    images, labels = pool.split.take(granted).to(device), pool.split.labels[granted].to(device, copy=True)
    starts = _starts(pool, openings, seed) if wanted.starts else None
    return Resources(images, labels, starts, surrogates)


def _starts(pool: ResourcePool, openings: Openings, seed: int) -> Tensor:
    """One image [G,C,H,W] for each game with a label that wins it; NaN where there is none."""
    assert pool.split is not None
    label = pool.answered.to(openings.x0.device)
    target = None if openings.target is None else openings.target.unsqueeze(1)
    fits = wins(label, openings.label.unsqueeze(1), target)
    weight = draws.uniform(draws.derive(seed, "starts"), openings.key, 0, (len(pool),))
    place = torch.where(fits, weight, -1.0).argmax(dim=1)
    chosen = pool.split.take(place.to(pool.split.index.device)).to(openings.x0.device)
    return torch.where(fits.any(dim=1).view(-1, 1, 1, 1), chosen, torch.nan)
