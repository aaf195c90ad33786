"""GWAD: streams of queries that move as those of an attack do."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from agents.defenders.stateful.history import Scope, Stateful
from agents.defenders.stateful.streams import ATTACKS, attack_streams, benign_stream, told
from agents.defenders.stateful.updates import (
    BINS,
    UpdateIndex,
    bins_of,
    centred,
    network,
    scaled,
    train_network,
)
from arena import draws
from arena.classifiers import Classifier
from arena.players import Splits
from arena.players.card import Card
from arena.rules.outcome import labels_of

CUTS = 8
"""Histograms are cut from a stream every capacity / 8 queries."""


@dataclass(frozen=True)
class GWAD(Stateful):
    """GWAD (Park, McLaughlin and Alouani, "Mind the Gap: Detecting Black-box Adversarial Attacks in the
    Making through Query Update Analysis", CVPR 2025), without the screener of its GWAD+.

        delta similarity of a query x_t: the cosine of x_t - x_(t-1) and x_(t-1) - x_(t-2)
        a query is an alarm if the histogram of the last 256 (201 bins, stretched to [0,1]) is not classified
        as benign

    Images larger than 32 x 32 are shrunk to that first. `fit` trains the classifier on streams of six attacks
    (HopSkipJump, NES, SimBA, Sign-OPT, Sign-Flip, Boundary), played from training images against the
    undefended classifier, and on streams of training images at random. The first 257 queries of a history
    are not tested.

    Attributes:
        history, action: as for all defenders with a history; by default per account. "cached" is not to be
            had: no remembered query is matched.
        capacity: similarities in a histogram. A history takes two images and so many bins: 30 kB.
        games: from how many images each attack is played in `fit`.
        seed: of `fit`.
    """

    history: Scope = "account"
    capacity: int = 256
    games: int = 10
    seed: int = 0
    _net: nn.Sequential | None = field(default=None, init=False, repr=False, compare=False)
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    card: ClassVar[Card | None] = Card(
        alters=("service",),
        paper='Park, McLaughlin and Alouani, "Mind the Gap: Detecting Black-box Adversarial Attacks in the '
        'Making through Query Update Analysis", CVPR 2025',
        claims="names the attack from 256 updates: HopSkipJump at query 260 in the authors' demonstration",
        broken_by=("square", "surfree"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action == "cached":
            raise ValueError("action must not be 'cached' for gwad: no earlier query is matched")
        if not 1 <= self.games <= 10_000:
            raise ValueError(f"games must be from 1 to 10000; found {self.games}")

    @property
    def length(self) -> int:
        """Queries of a stream to learn from."""
        return 2 * self.capacity + 2

    def preparing(self, splits: Splits) -> int:
        return self.games * (self.length * len(ATTACKS) + 4)

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with its classifier trained.

        Raises:
            ValueError: if no training image of those drawn is classified rightly.
        """
        x, label = self._images(classifier, splits)
        counts: list[Tensor] = []
        of: list[int] = []
        for number, name in enumerate(ATTACKS):
            told(name, number)
            seed = draws.derive(self.seed, name)
            for stream in attack_streams(name, classifier, x, label, self.length, seed):
                counts += self._cut(stream)
            of += [number + 1] * (len(counts) - len(of))
        split = splits.train
        images = split.take(slice(0, min(len(split), 2000))).to(classifier.device)
        for number in range(self.games * len(ATTACKS)):
            counts += self._cut(benign_stream(images, self.length, self.seed, number))
        of += [0] * (len(counts) - len(of))
        histograms, classes = torch.stack(counts), torch.tensor(of)
        net = train_network(histograms, classes, len(ATTACKS) + 1, draws.derive(self.seed, "network"))
        return self._with(net, self._found(net, histograms, classes))

    def _images(self, classifier: Classifier, splits: Splits) -> tuple[Tensor, Tensor]:
        """Training images that are classified rightly, to attack from, and their labels."""
        split = splits.train
        order = draws.uniform(draws.derive(self.seed, "train"), torch.arange(len(split)), 0, ()).argsort()
        rows = order[: 4 * self.games]
        x, label = split.take(rows).to(classifier.device), split.labels[rows].to(classifier.device)
        right = (labels_of(classifier(x)) == label).nonzero().squeeze(1)[: self.games]
        if not len(right):
            raise ValueError(f"gwad needs images that are classified rightly; of {len(x)} drawn none is")
        return x[right], label[right]

    def _cut(self, stream: Tensor) -> list[Tensor]:
        """Histograms of a stream [length,D]."""
        bins, step = bins_of(stream), max(1, self.capacity // CUTS)
        ends = range(self.capacity, len(bins) + 1, step)
        return [torch.bincount(bins[end - self.capacity : end], minlength=BINS) for end in ends]

    def _found(self, net: nn.Sequential, histograms: Tensor, of: Tensor) -> dict[str, Any]:
        """The shares of the histograms learnt from that are called alarms, by what they are of."""
        alarm = net(scaled(histograms)).argmax(dim=1) != 0
        names = ("benign", *ATTACKS)
        shares = {name: alarm[of == n].float() for n, name in enumerate(names)}
        return {f"alarms_{name}": float(a.mean()) if len(a) else None for name, a in shares.items()}

    def facts(self) -> dict[str, Any]:
        """Of the streams learnt from: the share of alarms; None where an attack gave none."""
        return dict(self._facts)

    def state(self) -> dict[str, Any]:
        tensors = {} if self._net is None else self._net.state_dict()
        return {"facts": self.facts(), **{f"net.{name}": t for name, t in tensors.items()}}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        net = network(len(ATTACKS) + 1)
        net.load_state_dict({n.removeprefix("net."): t for n, t in state.items() if n.startswith("net.")})
        return self._with(net, dict(state["facts"]))

    def _with(self, net: nn.Sequential, facts: dict[str, Any]) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_net", net)
        object.__setattr__(fitted, "_facts", facts)
        return fitted

    def features(self, x: Tensor) -> Tensor:
        return centred(x).cpu()

    def index(self, shape: tuple[int, ...]) -> UpdateIndex:
        if self._net is None:
            raise ValueError("GWAD must be fitted first: its classifier is trained on streams")
        return UpdateIndex(self.capacity, self._net)
