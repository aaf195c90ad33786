"""How well a defended classifier serves clean images, measured in one pass over them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena import draws, statistics
from arena.classifiers import Classifier
from arena.classifiers.reading import MASKED
from arena.classifiers.served import asking
from arena.classifiers.threads import computing_threads
from arena.datasets import Split, draw
from arena.evaluation.clean_utility import Utility
from arena.evaluation.cost import first_queries, measure
from arena.evaluation.reliability import reliability
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle, Watch
from arena.modes import own_modes
from arena.players import Response, Rows
from arena.progress import tell
from arena.rules.geometry import distance
from arena.rules.losses import margin
from arena.rules.outcome import labels_of


class Evaluation:
    """Labelled images on which stacks around a classifier are evaluated.

    Of a large split only a batch of images is held at a time, and a few numbers for each image.

    Args:
        classifier: the undefended one.
        images: how many: the first in the drawing order of `seed`, which is even over the classes; None for
            all. The seed also keys the defenders' draws.
    """

    def __init__(
        self, classifier: Classifier, split: Split, *, seed: int = 0, images: int | None = None
    ) -> None:
        self.classifier, self.split, self.seed = classifier, split, seed
        wanted = len(split) if images is None else min(images, len(split))
        self.places = draw(split, seed, wanted, lambda place: torch.ones(len(place), dtype=torch.bool)).index

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def undefended(self) -> tuple[Tensor, Tensor]:
        """[n] each, on the CPU: the undefended classifier's labels, -1 for none, and its probabilities of the
        true classes."""
        labels, sure = [], []
        for cut, x in self._pieces(self.classifier):
            scores = self.classifier(x).cpu()
            truth = self.split.labels[self.places[cut : cut + len(x)]]
            labels.append(labels_of(scores))
            sure.append(log_probabilities(scores).gather(1, truth[:, None])[:, 0].exp())
        return torch.cat(labels), torch.cat(sure)

    @own_modes()
    @computing_threads(1)
    def of(self, stack: Stack, *, cost: bool = True) -> Utility:
        """The utility of a stack of prepared defenders.

        Every image is the first query of its own game, answered once and remembered as in play; memory for a
        whole service lasts over all images, in drawing order.

        Args:
            cost: whether time and memory are measured, too. That takes some tenths of a second, or up to as
                long as the rest, whichever is longer.

        Raises:
            ValueError: if there are no images.
        """
        if not len(self):
            raise ValueError("a utility needs at least one image")
        began = time.perf_counter()
        moves = _Moves()
        with asking("utility"):
            columns = list(zip(*(read(*pair) for pair in self._answers(stack, moves)), strict=True))
            seconds = time.perf_counter() - began
            undefended, sure = self.undefended
        label, refused, confidence, nll, flagged = (torch.cat(column) for column in columns)
        truth, answered = self.split.labels[self.places], label >= 0
        right = label == truth
        low, high = statistics.wilson(int(right.sum()), len(self))
        return Utility(
            images=len(self),
            accuracy=_share(right),
            low=low,
            high=high,
            declined=_share(~answered & ~refused),
            refused=_share(refused),
            flagged=_share(flagged),
            agreement=_share(label == undefended),
            input_l2=moves.mean_l2,
            reliability=reliability(sure.numpy(), (-nll).exp().numpy(), answered.numpy(), right.numpy()),
            **_calibration(confidence[answered], right[answered], nll[answered]),
            **(self._cost(stack, seconds / 3) if cost else {}),
        )

    @own_modes()
    @computing_threads(1)
    def cost(self, stack: Stack) -> dict[str, Any]:
        """The measured fields of a stack's utility alone, as those that `of` gives with `cost`."""
        began = time.perf_counter()
        with asking("cost"):
            next(self._answers(stack, _Moves()))
        pieces = -(-len(self) // stack.base.batch)
        return self._cost(stack, (time.perf_counter() - began) * pieces / 3)

    @own_modes()
    @computing_threads(1)
    def loss_spread(self, stack: Stack, answers: int) -> float:
        """The standard deviation of the loss over a random stack's draws, averaged over the images: SND's
        sigma of l(x + eta) (Byun et al., sec. 4.2), with l = p_y - max_{k != y} p_k (eq. 1).

        Args:
            answers: how many fresh ones each image gets (the paper: 100), each as the first query of its own
                game. Images with fewer than two that are answered with a label do not count; NaN if no other
                is left. A stack that is not random gives 0, and is not asked.

        Raises:
            ValueError: if there are no images, or fewer than two answers.
        """
        if answers < 2 or not len(self):
            raise ValueError(f"a spread needs images, and at least two answers; found {len(self)}, {answers}")
        if not stack.random:
            return 0.0
        losses = []
        for number in range(answers):
            tell("fresh answers", number, answers)
            with asking("utility"):
                losses.append(torch.cat([_loss(*pair) for pair in self._answers(stack, _Moves(), number)]))
        among = np.stack([loss.numpy() for loss in losses], axis=1)
        told = among[(~np.isnan(among)).sum(axis=1) > 1]
        return float(np.nanstd(told, axis=1, ddof=1).mean()) if len(told) else math.nan

    def _answers(
        self, stack: Stack, moves: _Moves, number: int | None = None
    ) -> Iterator[tuple[Response, Tensor]]:
        """The answers to the images, piece by piece, and their true labels; each `number` has draws of its
        own."""
        seed = draws.derive(self.seed, "utility", *([] if number is None else [number]))
        service = any(d.memory == "service" for d in stack.defenders)
        oracle = StackOracle(stack, seed=seed, games=len(self), watch=moves) if service else None
        for cut, x in self._pieces(stack.base):
            place = self.places[cut : cut + len(x)]
            own = oracle or StackOracle(stack, seed=seed, games=len(x), watch=moves)
            moves.clean = x
            game = self.split.index[place].to(x.device)
            tell("clean images answered", cut, len(self))
            response = own.respond(x, first_queries(len(x), x.device, game, cut if service else 0))
            own.commit(torch.ones(len(x), dtype=torch.bool, device=x.device))
            yield response, self.split.labels[place]

    @asking("cost")
    def _cost(self, stack: Stack, seconds: float) -> dict[str, Any]:
        tell("time per query")
        images = self._take(0, stack.base)
        return measure(self.classifier, stack, images, seed=self.seed, seconds=seconds)

    def _pieces(self, classifier: Classifier) -> Iterator[tuple[int, Tensor]]:
        """The images, as many at a time as the classifier takes, each piece with the place of its first
        image."""
        for cut in range(0, len(self), classifier.batch):
            yield cut, self._take(cut, classifier)

    def _take(self, cut: int, classifier: Classifier) -> Tensor:
        return self.split.take(self.places[cut : cut + classifier.batch]).to(classifier.device)


class _Moves(Watch):
    """How far each image that the classifier is asked about lies from the clean one.

    Attributes:
        clean: [n,C,H,W] the images of the volley that is answered.
    """

    def __init__(self) -> None:
        self.clean = torch.empty(0)
        self._far: list[Tensor] = []

    def asked(self, x: Tensor, rows: Rows) -> None:
        same = x.shape[1:] == self.clean.shape[1:]
        far = distance(x.detach(), self.clean[rows.place], "l2") if same else torch.full((len(x),), torch.nan)
        self._far.append(far.cpu())

    @property
    def mean_l2(self) -> float:
        """Over all images asked about; NaN without any."""
        far = torch.cat(self._far).tolist() if self._far else []
        return math.fsum(far) / len(far) if far else math.nan


def _loss(response: Response, truth: Tensor) -> Tensor:
    """[n] float64: p_y - max_{k != y} p_k of the classes `truth`; NaN for rows that are refused or without a
    label."""
    scores = response.scores.cpu()
    silent = (response.refused | response.banned | response.withheld).cpu() | (labels_of(scores) < 0)
    return margin(log_probabilities(scores).exp(), truth).masked_fill(silent, torch.nan)


def _calibration(confidence: Tensor, right: Tensor, nll: Tensor) -> dict[str, Any]:
    if not len(right):
        return dict.fromkeys(("ece", "ece_mass", "nll"), math.nan)
    p, correct = confidence.numpy(), right.numpy()
    return {
        "ece": statistics.ece(p, correct),
        "ece_mass": statistics.ece_quantile(p, correct),
        "nll": float(nll.numpy().mean()),
    }


def read(response: Response, truth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """An answer to images of the classes `truth` [n] as the Referee reads it, on the CPU, [n] each: the label
    (-1 for none), whether the image was refused, the confidence of the label, -log p of `truth`, and whether
    the image was flagged."""
    scores = response.scores.cpu()
    refused, flagged = (response.refused | response.banned).cpu(), response.flagged.cpu()
    label = torch.where(response.withheld.cpu(), -1, labels_of(scores))
    log_p = log_probabilities(scores)
    return label, refused, log_p.max(dim=1).values.exp(), -log_p.gather(1, truth[:, None])[:, 0], flagged


def log_probabilities(scores: Tensor) -> Tensor:
    """log softmax of logits [n,K] in float64, infinite ones as the limits of large ones: those at +inf share
    all probability, and where all are at -inf they share it. A masked class (`Reading`) has probability 0."""
    z = scores.double()
    top = z.max(dim=1, keepdim=True).values
    shared = torch.where(z == top, 0.0, -torch.inf).double()
    log_p = torch.where(top.isinf(), shared, z).log_softmax(dim=1)
    return log_p.masked_fill(log_p < MASKED / 1e9, -torch.inf)


def _share(rows: Tensor) -> float:
    return int(rows.sum()) / len(rows)
