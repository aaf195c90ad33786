"""The defended classifier: what the service would answer, and what of it the outside may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from arena import random
from arena.classifiers import Classifier
from arena.classifiers.threads import computing_threads
from arena.losses import Loss, attack_loss
from arena.players import Defender, Response, Rows, Splits


@dataclass(frozen=True)
class Stack:
    """A stack of prepared defenders around a classifier.

    Attributes:
        base: the classifier after hardening.
        defenders: outermost first.
    """

    base: Classifier
    defenders: tuple[Defender, ...] = ()

    @property
    def random(self) -> bool:
        return any(d.random for d in self.defenders)

    @property
    def stateful(self) -> bool:
        return any(d.memory != "none" for d in self.defenders)


@computing_threads(1)
def prepare(classifier: Classifier, defenders: Sequence[Defender], splits: Splits) -> Stack:
    """Harden `classifier`, then fit the defenders to it, the innermost (last) first in both.

    What they compute themselves runs in one thread: training in more would give other bits.

    Raises:
        DefenderError: if one returns something else than it must.
    """
    for defender in reversed(defenders):
        classifier = defender.harden(classifier, splits)
        if not isinstance(classifier, Classifier):
            found = type(classifier).__name__
            raise DefenderError(f"{type(defender).__name__}.harden must return a Classifier; found {found}")
    fitted: list[Defender] = []
    for defender in reversed(defenders):
        fitted.append(defender.fit(classifier, splits))
        if not isinstance(fitted[-1], Defender):
            found = type(fitted[-1]).__name__
            raise DefenderError(f"{type(defender).__name__}.fit must return a Defender; found {found}")
    return Stack(classifier, tuple(reversed(fitted)))


ROWS = 1024
"""The rows that pass through the defenders at a time, where the classifier takes no more in one pass."""
GRADIENT_ROWS = 64
"""The most rows of one backward pass, which holds the activations of all layers at a time."""


class Oracle:
    """Answers rows through a stack and keeps the defenders' memories.

    Args:
        stack: what to ask.
        seed: of the defenders' draws.
        games, accounts: the size of the shard, for the memories.
        rows: how many pass through the defenders at a time; the classifier cuts them into its own batches.
            None for `ROWS`, or for such a batch where it is larger.
    """

    def __init__(
        self, stack: Stack, *, seed: int = 0, games: int = 1, accounts: int = 1, rows: int | None = None
    ) -> None:
        self.stack, self.base = stack, stack.base
        self.rows = rows or max(ROWS, stack.base.batch)
        self.random, self.stateful = stack.random, stack.stateful
        self._seeds = [random.derive(seed, layer) for layer in range(len(stack.defenders))]
        self._verdict_seeds = [random.derive(s, "verdict") for s in self._seeds]
        device = torch.device(stack.base.device)
        self._memories = [d.start(games, accounts, device) for d in stack.defenders]
        self._heard: list[tuple[int, Tensor, Rows, Response]] = []

    def respond(self, x: Tensor, rows: Rows) -> Response:
        """The defended answers to images `x` [n,C,H,W]. Memories do not change before `commit`."""
        self._heard.clear()
        return self._pieces(x, rows, self._seeds, record=self.stateful)

    def fresh(self, x: Tensor, rows: Rows) -> Response:
        """Answers of the Referee's own: with draws apart from the game's, leaving no trace in any memory."""
        return self._pieces(x, rows, self._verdict_seeds, record=False)

    def commit(self, kept: Tensor) -> None:
        """Let the defenders remember those rows of the last `respond` that are True in `kept` [n]."""
        for layer, x, rows, response in self._heard:
            mine = kept[rows.place]
            self.stack.defenders[layer].remember(x[mine], rows[mine], pick(response, mine))
        self._heard.clear()

    def forget(self, slots: Tensor) -> None:
        """Let the defenders forget the games at `slots` [m], where new ones are dealt."""
        for defender, memory in zip(self.stack.defenders, self._memories, strict=True):
            if defender.memory in ("game", "account"):
                defender.forget(memory, slots)

    def base_wrong(self, x: Tensor, label: Tensor, target: Tensor | None) -> Tensor:
        """[n] bool: the hardened classifier alone is wrong on `x` (or answers the target)."""
        return is_wrong(labels_of(self.base(x)), label, target)

    def gradient(self, x: Tensor, label: Tensor, target: Tensor | None, loss: Loss) -> tuple[Tensor, Tensor]:
        """Of the attacker's loss of the hardened classifier, at `x`: gradient [n,C,H,W], value [n]."""
        gradient, value = torch.zeros_like(x), x.new_zeros(len(x))
        size = min(self.base.batch, GRADIENT_ROWS)
        for cut in range(0, len(x), size):
            piece = slice(cut, cut + size)
            point = x[piece].detach().clone().requires_grad_(True)
            of = (label if target is None else target)[piece]
            with torch.enable_grad():
                scores = self.base.differentiable(point)
                losses = attack_loss(scores, of, loss, targeted=target is not None, logits=True)
                total = losses.sum()
            gradient[piece], value[piece] = torch.autograd.grad(total, point)[0], losses.detach()
        return gradient, value

    def detector(self, x: Tensor) -> Tensor:
        """The scores [n] of the outermost detector in the stack.

        Raises:
            NotImplementedError: if no defender of the stack has a detector.
        """
        for defender in self.stack.defenders:
            if defender.has_detector():
                return defender.detector(x, self.base) if len(x) else x.new_zeros(0)
        raise NotImplementedError("no defender of this stack has a detector")

    def _pieces(self, x: Tensor, rows: Rows, seeds: list[int], *, record: bool) -> Response:
        size = self.rows
        if not len(x):
            return Response(x.new_zeros((0, self.base.classes)))
        if self.stack.defenders:
            x = x.clone()  # a defender that works in place must not change what the Referee holds
        if len(x) <= size:
            return self._layer(0, x, rows, seeds, record)
        parts = [
            self._layer(0, x[cut : cut + size], rows[cut : cut + size], seeds, record)
            for cut in range(0, len(x), size)
        ]
        return concatenate(parts)

    def _layer(self, layer: int, x: Tensor, rows: Rows, seeds: list[int], record: bool) -> Response:
        if layer == len(self.stack.defenders):
            return Response(self.base(x))
        own = replace(rows, seed=seeds[layer], memory=self._memories[layer])

        def inner(z: Tensor, inside: Rows) -> Response:
            return self._layer(layer + 1, z, inside, seeds, record)

        response = self.stack.defenders[layer].respond(x, own, inner)
        if layer == 0:
            _check(self.stack.defenders[0], response, len(x), self.base)
        if record and self.stack.defenders[layer].memory != "none":
            self._heard.append((layer, x, own, response))
        return response


class DefenderError(TypeError):
    """A defender prepared itself or answered in a form that no answer has: one sentence."""


def _check(defender: Defender, response: Response, n: int, base: Classifier) -> None:
    """The form of an answer, by what can be told without looking at the device."""
    name = type(defender).__name__
    if not isinstance(response, Response):
        raise DefenderError(f"defender {name} must answer a Response; found {type(response).__name__}")
    wanted: list[tuple[str, object, torch.dtype, tuple[int, ...]]] = [
        ("scores", response.scores, torch.float32, (n, base.classes))
    ]
    for flag in ("declined", "refused", "flagged", "banned"):
        if (value := getattr(response, flag)) is not None:
            wanted.append((flag, value, torch.bool, (n,)))
    for what, value, dtype, shape in wanted:
        if not isinstance(value, Tensor):
            raise DefenderError(f"defender {name}: {what} must be a tensor; found {type(value).__name__}")
        if value.dtype != dtype or value.shape != shape or value.device != base.device:
            raise DefenderError(
                f"defender {name}: {what} must be {dtype} {list(shape)} on {base.device}; "
                f"found {value.dtype} {list(value.shape)} on {value.device}"
            )


def labels_of(scores: Tensor) -> Tensor:
    """The argmax of logits [n,K], ties to the lowest index; -1 where a row holds NaN. [n] int64."""
    return torch.where(scores.isnan().any(dim=1), -1, scores.argmax(dim=1))


def is_wrong(label: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """[n] bool: labels answered that win for the attacker; -1 never does."""
    return (label != y) & (label >= 0) if target is None else label == target


def shown(scores: Tensor, feedback: str, top_k: int | None) -> Tensor | None:
    """What the attacker sees of logits [n,K] under a feedback (D6); hidden classes of `topk` carry 0."""
    if feedback == "label":
        return None
    if feedback == "logits":
        return scores
    p = scores.softmax(dim=1)
    if top_k is None or top_k >= p.shape[1]:
        return p
    # Not topk: among equals it keeps any, so that the label answered could be hidden.
    kept = scores.argsort(dim=1, descending=True, stable=True)[:, :top_k]
    return torch.zeros_like(p).scatter_(1, kept, p.gather(1, kept))


def pick(response: Response, rows: Tensor) -> Response:
    """The rows of a response selected by an index or a mask."""

    def of(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[rows]

    return Response(
        response.scores[rows],
        of(response.declined),
        of(response.refused),
        of(response.flagged),
        of(response.banned),
    )


def concatenate(parts: Sequence[Response]) -> Response:
    """Responses to consecutive rows as one."""

    def of(name: str) -> Tensor | None:
        values = [getattr(p, name) for p in parts]
        if all(v is None for v in values):
            return None
        device = parts[0].scores.device
        return torch.cat(
            [
                torch.zeros(len(p.scores), dtype=torch.bool, device=device) if v is None else v
                for p, v in zip(parts, values, strict=True)
            ]
        )

    columns: dict[str, Any] = {name: of(name) for name in ("declined", "refused", "flagged", "banned")}
    return Response(torch.cat([p.scores for p in parts]), **columns)
