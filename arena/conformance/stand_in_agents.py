"""Well-behaved agents that stand in for those that an agent under check plays with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.players import Attacker, Defender, Games, Inner, Play, Response, Rows


@dataclass(frozen=True)
class Steps(Attacker):
    """Random steps, kept where the answer is no worse: the attacker inside a wrapper under check.

    Attributes:
        mu: length of a step per pixel.
    """

    mu: float = 0.05

    def play(self, games: Games) -> Play:
        x, worst = games.x0.clone(), games.x0.new_full((len(games),), torch.inf)
        while len(i := games.open):
            candidate = games.project(x[i] + self.mu * games.normal(games.x0.shape[1:], i), i)
            answers = yield from games.ask(candidate, i, "step")
            loss = (~games.wrong(answers)).float() if answers.scores is None else games.loss(answers)
            kept = answers.answered & (loss <= worst[i])
            x[i[kept]], worst[i[kept]] = candidate[kept], loss[kept]
            won = answers.game[(games.wrong(answers) & answers.answered).nonzero().squeeze(1)]
            if games.threat.objective == "submit":
                yield from games.submit(x[won], won)


@dataclass(frozen=True)
class NoisyInput(Defender):
    """Noise on the images.

    Attributes:
        sigma: its standard deviation.
    """

    sigma: float = 0.05

    random: ClassVar[bool] = True

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return x + self.sigma * rows.normal(x.shape[1:])


@dataclass(frozen=True)
class Flips(Defender):
    """Moves the scores by one class in a share of its answers, so that a right one becomes wrong.

    Attributes:
        share: how often.
    """

    share: float = 0.3

    random: ClassVar[bool] = True

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return torch.where((rows.uniform(()) < self.share).unsqueeze(1), scores.roll(1, dims=1), scores)


@dataclass(frozen=True)
class Several(Defender):
    """The mean of `times` answers to each row whose first pixel is dark, one answer to the others."""

    times: int = 2

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        dark = x[:, 0, 0, 0] < 0.5
        many = inner(x[dark].repeat_interleave(self.times, 0), rows[dark].repeat(self.times)).scores
        scores = x.new_empty((len(x), many.shape[1]))
        scores[dark] = (
            sum(many.view(-1, self.times, many.shape[1]).unbind(1), start=torch.zeros(())) / self.times
        )
        scores[~dark] = inner(x[~dark], rows[~dark]).scores
        return Response(scores)


@dataclass(frozen=True)
class Detector(Defender):
    """Flags bright images: those whose mean is at least 1/2."""

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        return replace(response, flagged=self._excess(x) >= 0)

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return self._excess(x)

    @staticmethod
    def _excess(x: Tensor) -> Tensor:
        return x.flatten(1).mean(dim=1) - 0.5


@dataclass(frozen=True)
class Trouble(Defender):
    """Makes trouble at every `every`-th query of a game: refuses, bans, declines, or answers NaN."""

    what: Literal["refused", "banned", "declined", "nan"]
    every: int = 1

    def watch(self, x: Tensor, rows: Rows, response: Response) -> Response:
        now = rows.turn % self.every == 0
        if self.what == "nan":
            return replace(response, scores=torch.where(now.unsqueeze(1), torch.nan, response.scores))
        return Response(response.scores, **{self.what: now})
