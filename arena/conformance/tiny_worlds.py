"""Tiny worlds to check agents in: made here, in a moment, and the same everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arena import draws
from arena.classifiers import Classifier
from arena.classifiers.surrogates import Surrogate
from arena.datasets import Split
from arena.rules.geometry import quantise
from arena.rules.outcome import labels_of

Shape = tuple[int, int, int]
WORLDS: tuple[tuple[Shape, int], ...] = (((1, 8, 8), 2), ((3, 12, 12), 10), ((3, 8, 12), 4))
"""Shape [C,H,W] and number of classes of each world."""
_HIDDEN = 12
_EPS = 2.0**-10  # that adds up without rounding


class Same(nn.Conv2d):
    """A convolution that changes nothing, for defenders that look at a network's first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1, groups=channels, bias=False)
        self.weight.requires_grad_(False)

    def reset_parameters(self) -> None:  # torch's would draw from the global generator
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(1, -1, 1, 1)


class RowWise(nn.Module):
    """A network with one hidden layer whose logits of an image are the same bits in any batch.

    It multiplies, adds and compares element by element and sums by halves, in an order that no batch changes;
    the sums and products of torch's own linear layers do change with it.
    """

    first: Tensor
    second: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Shape, classes: int, seed: int) -> None:
        super().__init__()
        self.same = Same(shape[0])
        self.norm = nn.BatchNorm2d(shape[0], eps=_EPS)
        self.norm.running_var = torch.full((shape[0],), 1 - _EPS)  # so that it changes nothing either
        pixels = math.prod(shape)
        first, second = (
            draws.normal(draws.derive(seed, "layer", n), torch.arange(size), 0, (inputs,))
            for n, (size, inputs) in enumerate([(_HIDDEN, pixels), (classes, _HIDDEN)])
        )
        self.register_buffer("first", _padded(first * (4 / math.sqrt(pixels))))
        self.register_buffer("second", _padded(second))
        self.register_buffer("mean", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(classes))
        images = draws.uniform(draws.derive(seed, "scale"), torch.arange(64), 0, shape)
        with torch.no_grad():
            logits = self.eval()(images)
        self.mean.copy_(logits.mean(dim=0))
        self.scale.copy_(2 / logits.std(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = _sum(
            _padded(self.norm(self.same(x).float()).flatten(1) - 0.5).unsqueeze(1) * self.first
        ).relu()
        return (_sum(_padded(hidden).unsqueeze(1) * self.second) - self.mean) * self.scale


class Constant(nn.Module):
    """A classifier that answers all images alike: all classes equal but the last, which is less likely (with
    all of them equal there would be no label)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.flatten(1)[:, :1].mul(0).repeat(1, self.classes)  # with a gradient: 0
        return zeros - (torch.arange(self.classes, device=x.device) == self.classes - 1).float()


@dataclass(frozen=True, eq=False)
class TinyWorld:
    """A classifier and as many images as wanted, all of which it gets right.

    Attributes:
        shape: (C, H, W).
        classes: K.
        classifier: its logits of an image do not depend on the batch, bit for bit.
        seed: of the images.
    """

    shape: Shape
    classes: int
    classifier: Classifier
    seed: int
    _drawn: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def split(self, name: str, count: int) -> Split:
        """`count` images on 8-bit levels, other ones under another name; the tensors are the caller's own."""
        if (name, count) not in self._drawn:
            drawn = draws.uniform(draws.derive(self.seed, name), torch.arange(count), 0, self.shape)
            images = quantise(drawn, "round").to(self.classifier.device)
            self._drawn[name, count] = images, labels_of(self.classifier(images))
        images, labels = self._drawn[name, count]
        return Split(images.clone(), torch.arange(count, device=images.device), labels.clone())

    def surrogates(self, count: int) -> tuple[Surrogate, ...]:
        """`count` other networks for the same images, whose logits and gradients of an image do not depend on
        the batch either."""
        shape, classes, device = self.shape, self.classes, self.classifier.device
        networks = (RowWise(shape, classes, seed=100 * (self.seed + 1) + n) for n in range(count))
        loaded = (
            Classifier(network, shape=shape, classes=classes, device=device, name=surrogate_name(n))
            for n, network in enumerate(networks)
        )
        return tuple(Surrogate(one) for one in loaded)

    @property
    def train(self) -> Split:
        """40 images to train defenders on."""
        return self.split("train", 40)

    @property
    def calibration(self) -> Split:
        """20 images to tune defenders on."""
        return self.split("calibration", 20)


def surrogate_name(number: int) -> str:
    """What a threat calls a world's reference network, from 0."""
    return f"tiny-{number + 1}"


@cache
def tiny_world(number: int, device: str) -> TinyWorld:
    """The world `WORLDS[number]`."""
    shape, classes = WORLDS[number]
    network = RowWise(shape, classes, seed=number)
    return TinyWorld(shape, classes, Classifier(network, shape=shape, classes=classes, device=device), number)


def constant_world(device: str) -> TinyWorld:
    """A world whose classifier answers all images alike."""
    shape, classes = WORLDS[1]  # of more than two classes: of two equal ones neither is the label
    classifier = Classifier(Constant(classes), shape=shape, classes=classes, device=device)
    return TinyWorld(shape, classes, classifier, 1)


def _padded(rows: Tensor) -> Tensor:
    """Rows [n,m] with zeros up to the next power of two."""
    return pad(rows, (0, (1 << (rows.shape[1] - 1).bit_length()) - rows.shape[1]))


def _sum(terms: Tensor) -> Tensor:
    """The sum over the last axis, whose length is a power of two."""
    while terms.shape[-1] > 1:
        half = terms.shape[-1] // 2
        terms = terms[..., :half] + terms[..., half:]
    return terms.squeeze(-1)
