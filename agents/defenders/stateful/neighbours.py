"""The nearest remembered queries, by Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.defenders.stateful.history import Index, Ring


class NeighbourIndex(Index):
    """The last `capacity` queries as points; an alarm has its `k` nearest at a mean distance below `delta`.

    Distances are sqrt(|a|^2 - 2 a b + |b|^2), each query by a product of its own, so that no batch changes
    their bits.
    """

    def __init__(self, capacity: int, k: int, delta: float) -> None:
        super().__init__(capacity)
        self.k, self.delta = k, delta
        self.points, self.squares = Ring(capacity), Ring(capacity)

    def find(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Alarms, and the nearest query; neither before `k` queries are remembered."""
        alarm = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        number = torch.full((len(features),), -1, device=features.device)
        if len(self.points) >= self.k:
            for i, point in enumerate(features):
                nearest, places = self._distances(point).topk(self.k, largest=False)
                alarm[i] = nearest.mean() < self.delta
                number[i] = self.points.numbers(places[0])
        return alarm, number

    def _distances(self, point: Tensor) -> Tensor:
        """[m] of `point` [D] to all that is remembered."""
        products = torch.mv(self.points.rows(), point)
        return (self.squares.rows() + point.square().sum() - 2 * products).clamp_min_(0).sqrt_()

    def add(self, features: Tensor, answers: Tensor, flagged: Tensor) -> None:
        """Remember points in order; after one that is an alarm here, too, all is forgotten, itself included.

        Only flagged ones can be: an alarm is always flagged, if not each flag is this defender's.
        """
        begin = 0
        for end in (flagged.nonzero().squeeze(1) + 1).tolist():
            self._append(features[begin : end - 1], answers[begin : end - 1])
            if bool(self.find(features[end - 1 : end])[0]):
                for ring in (self.points, self.squares, self.answers):
                    ring.clear()
                begin = end
            else:
                begin = end - 1
        self._append(features[begin:], answers[begin:])

    def _append(self, features: Tensor, answers: Tensor) -> None:
        if len(features):
            self.points.add(features)
            self.squares.add(features.square().sum(dim=1))
            self.answers.add(answers)


def mean_distances(points: Tensor, k: int) -> Tensor:
    """[n] float64: of each of `points` [n,D] to the `k` nearest of the others, on average."""
    piece = max(1, 2**24 // len(points))
    found = []
    for begin in range(0, len(points), piece):
        distance = torch.cdist(points[begin : begin + piece], points)
        own = torch.arange(len(distance), device=points.device)
        distance[own, begin + own] = torch.inf
        found.append(distance.topk(k, largest=False).values.double().mean(dim=1))
    return torch.cat(found)
