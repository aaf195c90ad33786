"""unfold: undo AAA-linear's reflection of the margin before a score attack hears it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from agents.attackers.parts.wrapping import AroundScores
from agents.parameters import check_parameters
from arena.players import Answers, Asking, Attacker, Games, Move, Needs, Play, relay


@dataclass(frozen=True)
class Unfold(AroundScores):
    """A wrapper that gives a score attack the margins that AAA-linear had before it reflected them.

    AAA-linear (Chen et al., NeurIPS 2022, eq. 4 and 5) aims at t = a - alpha (m0 - a), a the middle of the
    cell of width tau that holds the margin m0. Cells do not overlap in what is shown (alpha <= 1), so that
    m0 = a + (a - t) / alpha with a the middle of the cell of t: for alpha = 1 it is
    2 (ceil(t / tau) - 1/2) tau - t. The largest logit is moved by half of the difference, the second by minus
    half, which is how AAA moves them. It holds as far as AAA reaches its target, to about lr = .1 from it;
    where its calibration keeps margins of m0 > 5 (beta = 5) at .95 the result is about 5.05. Below m0 = 1.5
    AAA's descent often rests where only the confidence is as calibrated. There the confidence is low, and it
    falls with m0: it is given as the margin.

    AAA-sine is no one-to-one map: in each cell three margins are shown alike. There is no inverse of single
    answers, and against it this wrapper has nothing to offer.

    Attributes:
        of: the inner attack.
        tau: the width of a cell; a guess needs no knowledge. `told`: tau and alpha are read from the defense
            (knowledge "defense"); without an AAA-linear there, `of` plays as it is.
        alpha: the slope of the reflection, at most 1, if tau is given.
        unsure: confidences shown below it are given as margins; 0: none.
        slack: margins shown up to so much below a multiple of tau may come from the cell above, and are read
            so: the error is a candidate lost, the other one an incumbent that nothing can beat.
    """

    of: Attacker
    tau: float | Literal["told"] = 6.0
    alpha: float = 1.0
    unsure: float = 0.6
    slack: float = 0.1

    def __post_init__(self) -> None:
        check_parameters(self, positive=("alpha",) if self.tau == "told" else ("tau", "alpha"))
        if self.alpha > 1:
            raise ValueError(f"alpha must be at most 1; found {self.alpha}")
        if not 0 <= self.unsure <= 1:
            raise ValueError(f"unsure must be from 0 to 1; found {self.unsure}")
        if not 0 <= self.slack < (math.inf if self.tau == "told" else self.tau):
            raise ValueError(f"slack must be at least 0 and below tau; found {self.slack}")

    @property
    def needs(self) -> Needs:
        needs = super().needs
        told = self.tau == "told" and needs.knowledge == "none"
        return replace(needs, knowledge="defense") if told else needs

    def play(self, games: Games) -> Play:
        tau, alpha = _told(games.defense) if self.tau == "told" else (self.tau, self.alpha)
        logits = games.threat.feedback == "logits"

        def answer(move: Move) -> Asking:
            reply: Answers = yield move
            if tau is None or reply.scores is None:
                return reply

            def back(scores: Tensor) -> Tensor:
                z = unfolded(scores if logits else scores.log(), tau, alpha, self.unsure, self.slack)
                return z if logits else z.softmax(dim=-1)

            repeats = None if reply.repeats is None else back(reply.repeats)
            return replace(reply, scores=back(reply.scores), repeats=repeats)

        yield from relay(self.of.play(games), answer)


def unfolded(
    logits: Tensor, tau: float, alpha: float = 1.0, unsure: float = 0.0, slack: float = 0.0
) -> Tensor:
    """Logits [...,K] with the margin m0 between the two largest for which AAA-linear shows these.

    Arguments are as in `Unfold`.

    Rows with a NaN, or without two finite logits, are left as they are.
    """
    if logits.shape[-1] < 2:
        return logits
    top, where = logits.topk(2, dim=-1)
    shown = top[..., 0] - top[..., 1]
    middle = (((shown + slack) / tau).ceil().clamp_min(1) - 0.5) * tau
    true = middle + ((middle - shown) / alpha).clamp(-tau / 2, tau / 2)
    confidence = logits.double().softmax(dim=-1).amax(dim=-1).float()  # float32's depends on the batch
    true = torch.where(confidence < unsure, confidence, true)
    half = ((true - shown) / 2).unsqueeze(-1)
    first, second = top[..., :1] + half, top[..., 1:] - half
    # No third class comes between: had it been nearer, it would have been the second.
    moved = logits.minimum(second).scatter(-1, where, torch.cat([first, second], dim=-1))
    return torch.where(shown.isfinite().unsqueeze(-1), moved, logits)


def _told(defense: Mapping[str, Any] | None) -> tuple[float | None, float]:
    """tau and alpha of the AAA-linear that is told of, if any."""
    for defender in (defense or {}).get("defenders", ()):
        if defender["name"] == "aaa-linear":
            return float(defender["tau"]), float(defender["alpha"])
    return None, 1.0
