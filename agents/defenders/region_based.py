"""Region-based classification: the majority of the labels around an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from agents.defenders.parts.pieces import rows_at_a_time
from agents.defenders.parts.tuned import Tuned
from arena import draws
from arena.classifiers import Classifier
from arena.players import Inner, Response, Rows, Splits, tell
from arena.players.card import Card
from arena.rules.outcome import labels_of

_STEP, _STEPS = 0.01, 64
_IMAGES, _POINTS = 256, 64
_SEED = draws.derive(0, "region-based")
_NO_VOTES = float(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class RegionBased(Tuned):
    """Region-based classification (Cao and Gong, "Mitigating Evasion Attacks to Deep Neural Networks via
    Region-based Classification", ACSAC 2017): the label that most of m points have, drawn uniformly from
    [x - r, x + r] within [0,1]^d, new for each query; ties to the lowest index.

    Scores are the logarithms of the shares of the votes, so that softmax gives these back; a class without
    votes gets that of 2^-126, as its logarithm is to be finite. Points without a label do not vote; where
    none does, the answer has none. Points are asked about in pieces, so that memory does not grow with m.

    r is the largest multiple of .01 up to .63 at which the calibration split's accuracy is no lower than
    without, found by bisection on at most 256 of its images and 64 points each.

    Attributes:
        m: points a query (the authors: 10,000 on MNIST, 1,000 on CIFAR-10).
        r: given instead (the authors': .3 on MNIST, .02 on CIFAR-10).
    """

    m: int = 1000
    r: float | None = None

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("input", "label"),
        paper="Cao and Gong, Mitigating Evasion Attacks to Deep Neural Networks via Region-based "
        "Classification, ACSAC 2017",
        claims="no loss of clean accuracy, and small perturbations are voted down",
        broken_by=("hop-skip-jump",),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.m <= 100_000:
            raise ValueError(f"m must be from 1 to 100000 points; found {self.m}")
        if self.r is not None and not 0 <= self.r <= 1:
            raise ValueError(f"r must be from 0 to 1, or not given; found {self.r}")

    @property
    def asks(self) -> int:  # type: ignore[override]
        return self.m

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with r found on the calibration split."""
        if self.r is not None:
            return self.with_facts({"r": self.r})
        split = splits.calibration
        chosen = torch.arange(min(_IMAGES, len(split))) * len(split) // min(_IMAGES, len(split))
        x, y = split.take(chosen).to(classifier.device), split.labels[chosen].to(classifier.device)
        before = _share(labels_of(classifier(x)), y)
        votes = min(self.m, _POINTS)
        good, found, bad = 0, before, _STEPS
        while bad - good > 1:
            tell("radii tried", _STEPS // (bad - good), _STEPS)
            middle = (good + bad) // 2
            share = _share(voted(x, middle * _STEP, votes, classifier), y)
            good, found, bad = (middle, share, bad) if share >= before else (good, found, middle)
        return self.with_facts({"r": good * _STEP, "accuracy_before": before, "accuracy_after": found})

    def preparing(self, splits: Splits) -> int:
        images = min(_IMAGES, len(splits.calibration))
        return 0 if self.r is not None else images * (1 + 6 * min(self.m, _POINTS))

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        r = self.number("r")
        if not len(x):
            return inner(x, rows)
        count = max(1, rows_at_a_time(x) // len(x))
        polls: list[Poll] = []
        for first in range(0, self.m, count):
            which, point = _points(len(x), first, min(count, self.m - first), x.device)
            own = replace(rows[which], draw=rows[which].draw * self.m + point)
            response = inner(near(x[which], r, own.uniform(x.shape[1:])), own)
            polls = [sum_of([*polls, Poll.of(response, len(x))])]
        return polls[0].response()


@dataclass(frozen=True)
class Poll:
    """The votes of some points around each of n images.

    Attributes:
        votes: [n,K] int64.
        flagged, refused, banned: [n] bool: whether a point was.
    """

    votes: Tensor
    flagged: Tensor
    refused: Tensor
    banned: Tensor

    @classmethod
    def of(cls, response: Response, n: int) -> Poll:
        """Those of a response to as many points of each image, which lie next to each other."""
        labels = labels_of(response.scores).masked_fill(response.withheld, -1)
        flags = (getattr(response, name).view(n, -1).any(dim=1) for name in ("flagged", "refused", "banned"))
        return cls(counted(labels.view(n, -1), response.scores.shape[1]), *flags)

    def response(self) -> Response:
        """The answer: refused where that is why nobody votes."""
        total = self.votes.sum(dim=1, keepdim=True)
        scores = (self.votes.double() / total.clamp_min(1)).clamp_min(_NO_VOTES).log().float()
        # Scores that are all alike would give no label, as without votes: of classes that all have as
        # many the first is told by one last bit.
        tied = (self.votes == self.votes[:, :1]).all(dim=1) & (total[:, 0] > 0)
        above = torch.nextafter(scores[:, 0], torch.full_like(scores[:, 0], torch.inf))
        scores[:, 0] = torch.where(tied, above, scores[:, 0])
        return Response(
            scores, refused=self.refused & (total[:, 0] == 0), flagged=self.flagged, banned=self.banned
        )


def sum_of(polls: list[Poll]) -> Poll:
    """Several polls on the same images as one."""
    return Poll(
        torch.stack([poll.votes for poll in polls]).sum(dim=0),
        *(
            torch.stack([getattr(poll, name) for poll in polls]).any(dim=0)
            for name in ("flagged", "refused", "banned")
        ),
    )


def near(x: Tensor, r: float, uniform: Tensor) -> Tensor:
    """Points of the cubes [x - r, x + r] within [0,1]^d, from draws on [0,1)."""
    low, high = (x - r).clamp_min(0), (x + r).clamp_max(1)
    return torch.minimum(low + uniform * (high - low), high)


def counted(labels: Tensor, classes: int) -> Tensor:
    """[n,K] int64: how often each class is among labels [n,m]; -1 is none."""
    place = labels.where(labels >= 0, classes)
    votes = labels.new_zeros(len(labels), classes + 1)
    return votes.scatter_add_(1, place, torch.ones_like(place))[:, :classes]


def _points(n: int, first: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For `count` points of each of n images: the image [n * count], and the point's number from `first`."""
    which = torch.arange(n, device=device).repeat_interleave(count)
    return which, torch.arange(first, first + count, device=device).repeat(n)


def voted(x: Tensor, r: float, m: int, classifier: Classifier) -> Tensor:
    """The labels [n] that most of m points around images have, by draws of one seed."""
    votes = torch.zeros(len(x), classifier.classes, dtype=torch.int64, device=x.device)
    count = max(1, rows_at_a_time(x) // len(x))
    for first in range(0, m, count):
        which, point = _points(len(x), first, min(count, m - first), x.device)
        points = near(x[which], r, draws.uniform(_SEED, which, point, x.shape[1:]))
        votes += counted(labels_of(classifier(points)).view(len(x), -1), classifier.classes)
    return votes.argmax(dim=1)


def _share(labels: Tensor, y: Tensor) -> float:
    return (labels == y).double().mean().item()
