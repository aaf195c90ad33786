"""Random resizing and padding of every query's image."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from agents.defenders.parts.surgery import first_free_number
from arena.classifiers import Classifier
from arena.classifiers.errors import ServiceError
from arena.classifiers.keyed import KeyedLayer
from arena.players import Defender, Splits
from arena.players.card import Card
from arena.training import in_form


@dataclass(frozen=True)
class ResizePad(Defender):
    """Random resizing and padding (Xie, Wang, Zhang, Ren and Yuille, "Mitigating Adversarial Effects Through
    Randomization", ICLR 2018): the image is resized to a random side r by nearest neighbours and put at a
    random place of a larger, empty image; size and place are new for each query.

    The paper resizes 299 to r of 310, ..., 331 and pads to 331; other images are scaled by the same factors
    and rounded: 224 to 232, ..., 248, 32 to 33, ..., 35, 8 to 8 or 9; up to 4 pixels there is nothing to
    draw. Width and height keep their proportion. The paper's submission to a competition averages 30 draws,
    with flips; this is its single one.

    It hardens: the layer lies at the network's input, so that whatever else is in the stack sees images of
    their own size. Networks that end in a pool over the whole image take the larger one, as the paper's do;
    one that refuses it gets it resized back to its own size, by nearest neighbours, so that no network is
    shut out. `facts` tells.

    Attributes:
        smallest, largest: the least r, and the most, which is the padded image's side, as factors of the
            image's.
        fill: the pixels around it, in [0,1]. The paper pads with 0 after it has scaled pixels to [-1,1],
            which is .5 here.
    """

    smallest: float = 310 / 299
    largest: float = 331 / 299
    fill: float = 0.0

    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("input",),
        paper="Xie, Wang, Zhang, Ren and Yuille, Mitigating Adversarial Effects Through Randomization, "
        "ICLR 2018",
        claims="clean accuracy stays, attacks that know nothing of it fail (second of the NIPS 2017 "
        "competition)",
        broken_by=("square",),
    )

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest:
            raise ValueError(
                f"smallest must be above 0 and at most largest {self.largest}; found {self.smallest}"
            )
        if not 1 <= self.largest <= 4:
            raise ValueError(f"largest must be from 1 to 4; found {self.largest}")
        if not 0 <= self.fill <= 1:
            raise ValueError(f"fill must be from 0 to 1; found {self.fill}")

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        channels, *size = classifier.shape
        larger = (channels, *(scaled(side, self.largest) for side in size))
        return self._before(classifier, back=not _takes(classifier, larger))

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        return self._before(classifier, back=bool(tensors["resized_back"])).with_tensors(tensors)

    def _before(self, classifier: Classifier, back: bool) -> Classifier:
        return in_form(classifier, lambda own: Padded(own, self.smallest, self.largest, self.fill, back))

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender, which tells what `harden` did."""
        return self.restore({}, classifier)

    def preparing(self, splits: Splits) -> int:
        return 1

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        fitted = copy.copy(self)
        layer = next((part for part in classifier.module.modules() if isinstance(part, Padded)), None)
        if layer is not None:
            side = [scaled(size, self.largest) for size in classifier.shape[1:]]
            facts = {"padded_to": side, "resized_back": bool(layer.resized_back)}
            object.__setattr__(fitted, "_facts", facts)
        return fitted

    def facts(self) -> dict[str, Any]:
        """The padded image's height and width, and whether it is resized back for this network."""
        return dict(self._facts)


class Padded(KeyedLayer):
    """A network behind random resizing and padding; where there is nothing to draw by, the network alone.

    Args:
        smallest, largest, fill: as of `ResizePad`.
        back: whether the padded image is resized to its former size.
    """

    resized_back: Tensor

    def __init__(self, network: nn.Module, smallest: float, largest: float, fill: float, back: bool) -> None:
        super().__init__(first_free_number(network))
        self.network, self.smallest, self.largest, self.fill = network, smallest, largest, fill
        self.back = back
        self.register_buffer("resized_back", torch.tensor(back))

    def extra_repr(self) -> str:
        return f"{self.smallest}, {self.largest}, fill={self.fill}, number={self.number}"

    def forward(self, x: Tensor) -> Tensor:
        drawn = self.uniform(x, (3,))
        logits: Tensor = self.network(x if drawn is None else self.padded(x, drawn))
        return logits

    def padded(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Images [n,C,H',W'] of images [n,C,H,W], by draws [n,3] on [0,1) of the size and the place."""
        sources = []
        for axis, own in enumerate(x.shape[2:]):
            side = scaled(own, self.largest)
            at = torch.arange(own if self.back else side, device=x.device)
            at = at * side // own if self.back else at
            sources.append(self.sources(at, own, side, drawn[:, 0].double(), drawn[:, axis + 1].double()))
        empty = pad(x, (0, 1, 0, 1), value=self.fill)
        rows, columns = sources[0][:, None, :, None], sources[1][:, None, None, :]
        tall = empty.gather(2, rows.expand(-1, x.shape[1], -1, empty.shape[3]))
        return tall.gather(3, columns.expand(-1, x.shape[1], tall.shape[2], -1))

    def sources(self, at: Tensor, own: int, side: int, scale: Tensor, place: Tensor) -> Tensor:
        """Which of the `own` pixels of an axis lies at the places `at` [m] of the padded one, [n,m] int64;
        `own` itself where that is empty. Draws `scale`, `place` [n], float64, are uniform on [0,1)."""
        least = scaled(own, self.smallest)
        r = least + (scale * (side - least + 1)).long()
        offset = (place * (side - r + 1)).long()
        within = at[None] - offset[:, None]
        inside = (within >= 0) & (within < r[:, None])
        return torch.where(inside, within * own // r[:, None], own)


def scaled(size: int, factor: float) -> int:
    """A number of pixels times a factor, rounded; at least 1."""
    return max(1, math.floor(size * factor + 0.5))


def _takes(classifier: Classifier, shape: tuple[int, ...]) -> bool:
    """Whether a classifier answers an image of another shape."""
    try:
        classifier(torch.full((1, *shape), 0.5, device=classifier.device))
    except ServiceError:
        raise
    except Exception:  # a network's own, whatever does not fit in it
        return False
    return True
