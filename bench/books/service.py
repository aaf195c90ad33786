"""The defended classifier of world.py in plain Python: one image, one answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from arena import draws

NAN = math.nan
FLIPPED = 0.3
Image = tuple[float, ...]
"""The four pixels."""


def label_of(scores: Sequence[float]) -> int:
    """The first of the highest; none where scores hold NaN, nothing finite, or only one value."""
    if any(map(math.isnan, scores)) or not any(map(math.isfinite, scores)):
        return -1
    if len(scores) > 1 and min(scores) == max(scores):
        return -1
    return list(scores).index(max(scores))


@dataclass
class Reply:
    """What the service says to one image."""

    scores: list[float]
    declined: bool = False
    refused: bool = False
    flagged: bool = False
    banned: bool = False

    @cached_property
    def label(self) -> int:
        return -1 if self.declined else label_of(self.scores)


@dataclass
class Service:
    """The exact classifier behind at most one warden.

    Attributes:
        holes: whether some images have scores that are infinite or all equal.
        keys, turns: of the games, whose draws are then taken all at once; `turns` is the last turn.
    """

    weight: Sequence[Sequence[int]]
    bias: Sequence[int]
    memory: str | None = None
    random: bool = False
    seed: int = 0
    holes: bool = False
    keys: Sequence[int] = ()
    turns: int = 0
    counts: dict[Any, int] = field(default_factory=dict)
    trace: list[tuple[int, int, int, int]] = field(default_factory=list)
    _drawn: dict[int | None, dict[int, list[float]]] = field(default_factory=dict)

    @property
    def stateful(self) -> bool:
        return self.memory in ("game", "account", "service")

    def base(self, x: Image) -> list[float]:
        logits = []
        for weights, bias in zip(self.weight, self.bias, strict=True):
            total = sum(w * p for w, p in zip(weights, x, strict=True)) + bias
            logits.append(round(total * 64) / 64)
        if self.holes:
            if x[1] == 1:
                logits = [1.0] * len(logits)
            if x[2] == 1:
                logits[1] = math.inf
            elif x[3] == 1:
                logits = [-math.inf] * len(logits)
        if x[0] == 1:
            logits[0] = NAN
        return logits

    def _scope(self, game: int, account: int) -> Any:
        return {"game": game, "account": (game, account), "service": 0}.get(self.memory or "none")

    def count(self, game: int, account: int) -> int:
        return self.counts.get(self._scope(game, account), 0)

    def ask_fresh(self, x: Image, key: int, turn: int, draw: int) -> Reply:
        """What a new client is answered, whom nobody remembers: its first query; without memory, the turn
        only chooses the draws."""
        return self._reply(x, 0, key, 1 if self.stateful else turn, draw)

    def ask(self, x: Image, game: int, account: int, key: int, turn: int, draw: int | None = None) -> Reply:
        """The defended reply; `draw` counts those of a verdict."""
        return self._reply(x, self.count(game, account), key, turn, draw)

    def _reply(self, x: Image, count: int, key: int, turn: int, draw: int | None) -> Reply:
        scores = self.base(x)
        if self.memory is None:
            return Reply(scores)
        code = code_of(x)
        scores[0] += count % 3
        if self.random and self._uniform(key, turn, draw) < FLIPPED:
            scores = [scores[-1], *scores[:-1]]
        return Reply(
            scores,
            declined=(code + count) % 7 == 6,
            refused=(code + 2 * count) % 5 == 4,
            flagged=code % 3 == 0,
            banned=(code + count) % 11 == 10,
        )

    def _uniform(self, key: int, turn: int, draw: int | None) -> float:
        if draw not in self._drawn:
            seed = draws.derive(self.seed, 0)
            if draw is not None:
                seed = draws.derive(seed, "verdict")
            span = self.turns + 1
            keys = torch.tensor(self.keys).repeat_interleave(span)
            turns = torch.arange(span).repeat(len(self.keys))
            u = draws.uniform(seed, keys, turns, (), stream=16 * (draw or 0)).view(-1, span).tolist()
            self._drawn[draw] = dict(zip(self.keys, u, strict=True))
        return self._drawn[draw][key][turn]

    def remember(self, x: Image, game: int, account: int, turn: int) -> None:
        if self.stateful:
            scope = self._scope(game, account)
            self.counts[scope] = self.counts.get(scope, 0) + 1
            self.trace.append((game, turn, account, code_of(x)))


def code_of(x: Image) -> int:
    return round(sum(x) * 16)
