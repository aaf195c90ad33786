"""Defenders of strangers': sound ones of every kind, and some that cheat."""

from __future__ import annotations

import copy
import gc
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.players import Defender, Inner, Response, Rows, Splits


@dataclass(frozen=True)
class Blur(Defender):
    """Noise on images and scores, of a seed of its own."""

    sigma: float = 0.02
    random: ClassVar[bool] = True

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return (x + self.sigma * rows.normal(x.shape[1:])).clamp(0, 1)

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return scores + self.sigma * rows.normal(scores.shape[1:], stream=1)


@dataclass(frozen=True)
class Posing(Defender):
    """Would be written down as another."""

    name: str = "snd"


@dataclass(frozen=True)
class Mean(Defender):
    """The mean of several noisy answers."""

    times: int = 3
    random: ClassVar[bool] = True

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        many = rows.repeat(self.times)
        z = x.repeat_interleave(self.times, 0)
        response = inner((z + 0.05 * many.normal(x.shape[1:])).clamp(0, 1), many)
        return Response(response.scores.view(len(x), self.times, -1).mean(1))


@dataclass(frozen=True)
class Counter(Defender):
    """Refuses an account after so many rows, and flags all from the half of that on."""

    most: int = 6
    memory: ClassVar[Literal["account"]] = "account"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        return torch.zeros(shape[0], accounts, dtype=torch.int64, device=device)

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        seen = rows.memory[rows.game, rows.account]
        return replace(response, refused=seen >= self.most, flagged=seen >= self.most // 2)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory[rows.game, rows.account] += 1

    def forget(self, memory: Any, games: Tensor) -> None:
        memory[games] = 0

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return classifier(x).max(dim=1).values - 1


@dataclass(frozen=True)
class Unsure(Defender):
    """Declines where the margin is below that of most calibration images."""

    share: float = 0.1
    _threshold: float | None = field(default=None, init=False, repr=False)
    _mean: Any = field(default=None, init=False, repr=False, compare=False)

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        images = splits.calibration.take(slice(0, 200))
        top = classifier(images).topk(2, dim=1).values
        margin = top[:, 0] - top[:, 1]
        mean = splits.train.take(torch.arange(10)).mean(dim=0)
        return self.restore({"threshold": float(margin.quantile(self.share)), "mean": mean}, classifier)

    def facts(self) -> dict[str, Any]:
        return {"threshold": self._threshold}

    def state(self) -> dict[str, Any]:
        return {"threshold": self._threshold, "mean": self._mean}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        fitted = copy.copy(self)
        object.__setattr__(fitted, "_threshold", state["threshold"])
        object.__setattr__(fitted, "_mean", state["mean"])
        return fitted

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        assert self._threshold is not None
        response = inner(x, rows)
        top = response.scores.topk(2, dim=1).values
        return replace(response, declined=top[:, 0] - top[:, 1] < self._threshold)


@dataclass(frozen=True)
class Shrunk(Defender):
    """Hardens the classifier into one with smaller weights."""

    factor: float = 0.9

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return classifier.with_tensors({k: v * self.factor for k, v in classifier.tensors().items()})


@dataclass(frozen=True)
class Rebuilt(Shrunk):
    """Overrides what is not to be had in a process of its own."""

    def rebuild(self, classifier: Classifier, tensors: Mapping[str, Tensor]) -> Classifier:
        return classifier.with_tensors(tensors)


@dataclass(frozen=True)
class Spy(Defender):
    """Looks for what is not its own, and answers how much of it there is: scores of 0, and of that number."""

    what: str = "labels"

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        scores = torch.zeros(len(x), 3)
        scores[:, 0] = FINDS[self.what](rows)
        return Response(scores + inner(x, rows).scores * 1e-3)


def labels(rows: Rows) -> int:
    """Objects that hold labels: of the arena's, in this process."""
    names = {"Openings", "Board", "Ledger", "Referee", "Games", "StackOracle", "Stack", "Dataset"}
    return sum(type(o).__name__ in names for o in gc.get_objects())


def classifiers(rows: Rows) -> int:
    return sum(isinstance(o, torch.nn.Module | Classifier) for o in gc.get_objects())


def files(rows: Rows) -> int:
    found = 0
    for path in ("/etc/passwd", f"/proc/{os.getppid()}/environ"):
        try:
            found += bool(Path(path).read_bytes())
        except OSError:
            continue
    return found


FINDS = {"labels": labels, "classifiers": classifiers, "files": files}


@dataclass(frozen=True)
class Bad(Defender):
    """Does its deed as it is asked for the second time."""

    deed: str = "exit"
    memory: ClassVar[Literal["game"]] = "game"

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        return [0]

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        response = inner(x, rows)
        if rows.memory[0]:
            return DEEDS[self.deed](x, rows, inner, response)
        return response

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory[0] += 1


DEEDS: dict[str, Any] = {
    "exit": lambda x, rows, inner, response: os._exit(4),
    "sleep": lambda x, rows, inner, response: time.sleep(1000),
    "ask on": lambda x, rows, inner, response: all(inner(x, rows) is not None for _ in iter(int, 1)),
    "raise": lambda x, rows, inner, response: 1 / 0,
    "nothing": lambda x, rows, inner, response: None,
    "short": lambda x, rows, inner, response: Response(response.scores[:0]),
    "double": lambda x, rows, inner, response: Response(response.scores.double()),
    "list": lambda x, rows, inner, response: inner(x.tolist(), rows),
    "no rows": lambda x, rows, inner, response: inner(x, None),
    "fewer rows": lambda x, rows, inner, response: inner(x, rows[:0]),
    "half rows": lambda x, rows, inner, response: inner(x, replace(rows, turn=rows.turn.float())),
    "odd shape": lambda x, rows, inner, response: inner(x[:, :, :1], rows),
    "garbage": lambda x, rows, inner, response: (os.write(3, b"\xff" * 99), time.sleep(1000)),
}


@dataclass(frozen=True)
class Picky(Defender):
    """Cannot defend colour images."""

    said: str = "colours are too much"

    def unsuited(self, shape: tuple[int, ...]) -> Any:
        return {"a": 1} if self.said == "nonsense" else None if shape == (1, 2, 2) else self.said
