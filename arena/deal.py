"""The games of a shard: images, labels, targets, and what their attacker owns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arena import random
from arena.classifiers import Classifier
from arena.datasets import Split
from arena.games import Holdings
from arena.oracle import labels_of
from arena.threat import Threat


@dataclass(frozen=True, eq=False)
class Deal:
    """The games of a shard.

    Attributes:
        x0: [G,C,H,W] clean images; label: [G] true labels; key: [G] the games' numbers, to which all draws
            are keyed (image numbers in the data set); target: [G] or None.
    """

    x0: Tensor
    label: Tensor
    key: Tensor
    target: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x0)

    def __getitem__(self, rows: Tensor | slice) -> Deal:
        target = None if self.target is None else self.target[rows]
        return Deal(self.x0[rows], self.label[rows], self.key[rows], target)


def draw_targets(threat: Threat, label: Tensor, key: Tensor, classes: int, seed: int) -> Tensor | None:
    """Target labels [G] as the threat says, from the scenario's seed and the image's number alone."""
    if not threat.targeted:
        return None
    if threat.targets == "next":
        return (label + 1) % classes
    offset = random.integers(classes - 1, random.derive(seed, "targets"), key, 0, ()) + 1
    return (label + offset) % classes


def draw_holdings(
    threat: Threat, split: Split | None, classifier: Classifier, deal: Deal, seed: int
) -> Holdings:
    """What the threat's resources grant the attacker, drawn from the `attackers` split.

    Raises:
        ValueError: if there is no such split, or it holds too few images.
    """
    wanted = threat.resources
    if not wanted.images and not wanted.starts:
        return Holdings()
    if split is None or len(split) < max(1, wanted.images):
        found = 0 if split is None else len(split)
        raise ValueError(f"resources grant the attacker {wanted.images} images; its split holds {found}")
    images, labels = split.images.to(deal.x0.device), split.labels.to(deal.x0.device)
    starts = _starts(images, labels_of(classifier(images)), deal, seed) if wanted.starts else None
    return Holdings(images[: wanted.images], labels[: wanted.images], starts)


def _starts(images: Tensor, label: Tensor, deal: Deal, seed: int) -> Tensor:
    """One image [G,C,H,W] for each game with a label that wins it; NaN where there is none."""
    if deal.target is None:
        fits = (label != deal.label.unsqueeze(1)) & (label >= 0)
    else:
        fits = label == deal.target.unsqueeze(1)
    weight = random.uniform(random.derive(seed, "starts"), deal.key, 0, (len(images),))
    chosen = images[torch.where(fits, weight, -1.0).argmax(dim=1)]
    return torch.where(fits.any(dim=1).view(-1, 1, 1, 1), chosen, torch.nan)
