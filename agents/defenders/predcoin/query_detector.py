"""F_Q: a small network that distinguishes gradient-estimation queries from benign images by probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from agents.defenders.predcoin.detector_training import Parameters, train
from arena import draws

HIDDEN = (64, 64, 32)
"""Units of the hidden layers (PredCoin, Table 1)."""
LEAST_PAIRS = 10
"""A class with fewer known benign images or boundary queries gets no network of its own."""

_GRID = 2.0**18
_LARGEST_WEIGHT, _LARGEST_UNIT = 8.0, 128.0
_FLOATS = 2**24
"""The most inputs of a layer that are held at a time."""


@dataclass(frozen=True, eq=False)
class QueryDetector:
    """F_Q, or one F_Q^i for each predicted class i (PredCoin, section 5.2, option 2).

    Weights and units lie on a grid of 2^-18 in float64, below bounds within which no sum of products rounds:
    y1 of a row has the same bits in any batch, whatever kernel multiplies.

    Attributes:
        layers: of M networks: weights [M,in,out] and biases [M,1,out], float64 on the grid.
        of: [K] int64, the network of each predicted class.
        top: how many of the largest probabilities enter, in descending order; 0: all, by class.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    of: Tensor
    top: int = 3

    @torch.no_grad()
    def __call__(self, logits: Tensor) -> Tensor:
        """y1 [n] float32 in [0,1], the confidence that finite logits [n,K] are those of such a query."""
        networks, inputs = self.layers[0][0].shape[:2]
        pieces = torch.split(logits, max(1, _FLOATS // (networks * max(inputs, *HIDDEN))))
        return torch.cat([self._exact(piece) for piece in pieces])

    def _exact(self, logits: Tensor) -> Tensor:
        own = self.of[logits.argmax(dim=1)]
        s = _on_grid(features(logits, self.top).double())
        networks = len(self.layers[0][0])
        if len(own) <= networks:
            z = _exact([(w[own], b[own]) for w, b in self.layers], s.unsqueeze(1))[:, 0]
        else:
            every = _exact(self.layers, s.expand(networks, -1, -1))
            z = every[own, torch.arange(len(own), device=own.device)]
        return torch.sigmoid(z[:, 0] - z[:, 1]).float()

    def to(self, device: torch.device) -> QueryDetector:
        layers = tuple((w.to(device), b.to(device)) for w, b in self.layers)
        return QueryDetector(layers, self.of.to(device), self.top)

    def state(self) -> dict[str, Tensor | int]:
        """Its tensors and `top` by name, from which `restored` rebuilds it."""
        state: dict[str, Tensor | int] = {"of": self.of, "top": self.top}
        for n, (weight, bias) in enumerate(self.layers):
            state |= {f"layer {n} weight": weight, f"layer {n} bias": bias}
        return state

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> QueryDetector:
        count = sum(name.startswith("layer ") for name in state) // 2
        layers = tuple((state[f"layer {n} weight"], state[f"layer {n} bias"]) for n in range(count))
        return cls(layers, state["of"], state["top"])


def features(logits: Tensor, top: int) -> Tensor:
    """s: the `top` largest probabilities of logits [n,K], descending, 0 where K is less; all for 0."""
    p = logits.softmax(dim=1)
    if not top:
        return p
    largest = p.sort(dim=1, descending=True).values[:, :top]
    return torch.nn.functional.pad(largest, (0, top - largest.shape[1]))


def train_detector(benign: Tensor, queries: Tensor, seed: int) -> QueryDetector:
    """F_Q, trained on the logits [n,K] of benign images and [m,K] of gradient-estimation queries."""
    s, is_query = _examples(benign, queries, top=3)
    of = torch.zeros(benign.shape[1], dtype=torch.int64)
    return QueryDetector(_stacked([_learnt(s, is_query, seed)]), of)


def train_per_class(benign: Tensor, queries: Tensor, seed: int) -> QueryDetector:
    """F_Q^i of all K probabilities for each class i predicted; arguments as for `train_detector`.

    Classes with too few known examples (`LEAST_PAIRS`) share a network trained on all classes.
    """
    p, is_query = _examples(benign, queries, top=0)
    predicted, networks = torch.cat([benign, queries]).argmax(dim=1), [_learnt(p, is_query, seed)]
    of = torch.zeros(benign.shape[1], dtype=torch.int64)
    for i in range(len(of)):
        mine = predicted == i
        if min(int((is_query[mine] == kind).sum()) for kind in (0, 1)) >= LEAST_PAIRS:
            of[i] = len(networks)
            what = f"training F_Q of class {i}, epochs"
            networks.append(_learnt(p[mine], is_query[mine], draws.derive(seed, "class", i), what))
    return QueryDetector(_stacked(networks), of, top=0)


def _examples(benign: Tensor, queries: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Features [n+m,...], and [n+m] int64: whether they are of queries."""
    is_query = torch.cat([torch.zeros(len(benign)), torch.ones(len(queries))]).long()
    return features(torch.cat([benign, queries]), top), is_query


def _learnt(s: Tensor, is_query: Tensor, seed: int, what: str = "training F_Q, epochs") -> Parameters:
    return train(_forward, _start((s.shape[1], *HIDDEN, 2), seed), s, is_query, seed, what)


def _start(sizes: tuple[int, ...], seed: int) -> Parameters:
    """Weights [in,out] and biases uniform within 1/sqrt(inputs), as torch starts linear layers, from keyed
    draws."""
    layers = []
    for n, (inputs, outputs) in enumerate(pairwise(sizes)):
        drawn = draws.uniform(draws.derive(seed, "layer", n), torch.arange(inputs + 1), 0, (outputs,))
        bounded = drawn.mul_(2).sub_(1).div_(inputs**0.5)
        layers.append((bounded[:-1].clone(), bounded[-1].clone()))
    return layers


def _forward(layers: Parameters, s: Tensor) -> Tensor:
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        s = (s @ w + b).relu()
    return s @ weight + bias


def _stacked(networks: list[Parameters]) -> tuple[tuple[Tensor, Tensor], ...]:
    return tuple(
        (
            _on_grid(torch.stack([w for w, _ in layer]).double().clamp(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)),
            _on_grid(
                torch.stack([b for _, b in layer])
                .double()
                .clamp(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)
                .unsqueeze(1)
            ),
        )
        for layer in zip(*networks, strict=True)
    )


def _exact(layers: Sequence[tuple[Tensor, Tensor]], unit: Tensor) -> Tensor:
    """The outputs [M,n,2] of M networks for inputs [M,n,in] on the grid."""
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        unit = _on_grid((torch.bmm(unit, w) + b).clamp_(0, _LARGEST_UNIT))
    return torch.bmm(unit, weight) + bias


def _on_grid(value: Tensor) -> Tensor:
    return value.mul(_GRID).round_().div_(_GRID)
