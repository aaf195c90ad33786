"""How a stream of queries moves: the histogram of cosines between consecutive updates, and its classifier."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from agents.defenders.stateful.history import Index
from arena import draws
from arena.players import tell

SIDE = 32
"""Larger images are shrunk to so many pixels in height and width."""
BINS = 201
HIDDEN = (256, 256, 128, 64)
EPOCHS, BATCH, LR = 30, 64, 1e-3


def centred(x: Tensor) -> Tensor:
    """[n,D] images [n,C,H,W], shrunk where they are large, less the mean of each."""
    if max(x.shape[2:]) > SIDE:
        x = interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    flat = x.flatten(1)
    return flat - flat.mean(dim=1, keepdim=True)


def bin_of(before: Tensor, last: Tensor, point: Tensor) -> int:
    """Of the cosine c between last - before and point - last [D] each: floor((1 + c) / .01); c is 0 where one
    of them is."""
    one, other = last - before, point - last
    lengths = float(one.norm() * other.norm())
    cosine = float(torch.dot(one, other)) / lengths if lengths > 0 else 0.0
    return min(max(int((1 + cosine) * (BINS - 1) / 2), 0), BINS - 1)


def bins_of(stream: Tensor) -> Tensor:
    """[q-2] int64: the bins of a stream of queries [q,D], the first at its third."""
    update = stream.diff(dim=0)
    length = update.norm(dim=1)
    lengths = length[1:] * length[:-1]
    cosine = (update[1:] * update[:-1]).sum(dim=1) / torch.where(lengths > 0, lengths, 1.0)
    return ((1 + cosine.double()) * (BINS - 1) / 2).long().clamp_(0, BINS - 1)


def scaled(counts: Tensor) -> Tensor:
    """Histograms [...,BINS] stretched to [0,1]."""
    least, most = counts.amin(dim=-1, keepdim=True), counts.amax(dim=-1, keepdim=True)
    return ((counts - least) / (most - least).clamp_min(1)).float()


def network(classes: int) -> nn.Sequential:
    """Delta-Net: histograms [n,BINS] -> logits [n,classes] by four hidden layers, as in the authors' code."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        for before, after in zip((BINS, *HIDDEN[:-1]), HIDDEN, strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
        layers.append(nn.Linear(HIDDEN[-1], classes))
    return nn.Sequential(*layers).eval().requires_grad_(False)


def train_network(histograms: Tensor, of: Tensor, classes: int, seed: int) -> nn.Sequential:
    """Delta-Net for histograms [n,BINS] of the classes `of` [n], by Adam; rarer classes weigh more."""
    net = network(classes)
    parameters = [p.requires_grad_(True) for p in net.parameters()]
    with torch.no_grad():
        for number, p in enumerate(parameters):
            drawn = draws.uniform(draws.derive(seed, number), torch.arange(len(p)), 0, p.shape[1:])
            p.copy_((2 * drawn - 1) * (3 / p[0].numel()) ** 0.5 if p.ndim > 1 else torch.zeros_like(p))
    x, weight = scaled(histograms), 1 / torch.bincount(of, minlength=classes).clamp_min(1)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(parameters, lr=LR)
    with torch.enable_grad():
        for epoch in range(EPOCHS):
            tell("training the classifier of streams", epoch, EPOCHS)
            for rows in torch.split(torch.randperm(len(x), generator=generator), BATCH):
                loss = cross_entropy(net(x[rows]), of[rows], weight=weight)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
    return net.requires_grad_(False)


class UpdateIndex(Index):
    """The last two queries of a stream and the bins of its last `capacity` updates.

    An alarm: the histogram of the last `capacity` bins, that of the query included, is not classified as
    benign (class 0).
    """

    def __init__(self, capacity: int, net: nn.Sequential) -> None:
        super().__init__(capacity)
        self.capacity, self.net = capacity, net
        self.last: list[Tensor] = []
        self.bins: deque[int] = deque(maxlen=capacity)
        self.counts = torch.zeros(BINS, dtype=torch.int64)

    def find(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Alarms, each query as if it were the next; no remembered one is matched."""
        tested = len(self.last) == 2 and len(self.bins) + 1 >= self.capacity
        found = [tested and self._is_attack(point) for point in features]
        return torch.tensor(found, dtype=torch.bool), torch.full((len(features),), -1)

    def _is_attack(self, point: Tensor) -> bool:
        counts = self.counts.clone()
        counts[bin_of(self.last[0], self.last[1], point)] += 1
        if len(self.bins) == self.capacity:
            counts[self.bins[0]] -= 1
        return int(self.net(scaled(counts)).argmax()) != 0

    def add(self, features: Tensor, answers: Tensor, flagged: Tensor) -> None:
        """Move on along a stream, in order."""
        for point in features:
            if len(self.last) == 2:
                if len(self.bins) == self.capacity:
                    self.counts[self.bins[0]] -= 1
                self.bins.append(bin_of(self.last[0], self.last[1], point))
                self.counts[self.bins[-1]] += 1
            self.last = [*self.last[-1:], point.clone()]
