"""A stack of defenders around a classifier in this process, as an oracle."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arena import draws
from arena.classifiers import Classifier
from arena.classifiers.errors import ClassifierError
from arena.classifiers.served import asking, served_in
from arena.game.blame import DefenderError, blaming, blaming_classifier, class_of, is_unwritten
from arena.game.stack import Stack, own_response
from arena.game.tensors import flaw_of, in_words, own
from arena.modes import Modes, back_in, modes
from arena.players import Defender, Response, Rows
from arena.players.response import concatenated, pick
from arena.rules.losses import Loss, attack_loss
from arena.rules.outcome import labels_of

ROWS = 1024
"""The rows that pass through the defenders at a time, where the classifier takes no more in one pass."""
GRADIENT_ROWS = 64
"""The most rows of one backward pass, which holds the activations of all layers at a time."""


class Watch:
    """Who watches how answers are made; this one sees nothing."""

    def within(self) -> AbstractContextManager[object]:
        """What a defender's `respond` runs within; again for what it asks of other defenders, not for the
        classifier."""
        return nullcontext()

    def asked(self, x: Tensor, rows: Rows) -> None:
        """The classifier is about to be asked about images `x` [m,C,H,W] for these rows [m]."""


class StackOracle:
    """An `Oracle` that answers rows through a stack and keeps the defenders' memories.

    Args:
        stack: what to ask.
        seed: of the defenders' draws.
        games, accounts: the size of the shard, for the memories.
        rows: how many pass through the defenders at a time; the classifier cuts them into its own batches.
            None for `ROWS`, or for such a batch where it is larger.
        watch: who watches.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        seed: int = 0,
        games: int = 1,
        accounts: int = 1,
        rows: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        # What a defender sets on itself while it answers is not to reach another shard.
        self.stack = replace(stack, defenders=tuple(map(_copy_of, stack.defenders)))
        self.base, self.classes, self._watch = stack.base, stack.base.classes, watch or Watch()
        self.rows = rows or max(ROWS, stack.base.batch)
        self.random, self.stateful = stack.random, stack.stateful
        self.paid = served_in(stack.base.module) is not None
        self._remembers = [d.memory != "none" for d in stack.defenders]
        self._home: Modes = modes()
        self._failed: BaseException | None = None
        # The last is that of the classifier, whose layers may draw.
        self._seeds = [draws.derive(seed, layer) for layer in range(len(stack.defenders) + 1)]
        self._verdict_seeds = [draws.derive(s, "verdict") for s in self._seeds]
        # "none" and its like cost nothing: what only passes rows on is not asked.
        self._acting = [n for n, d in enumerate(stack.defenders) if d.acts or self._remembers[n]]
        self._draws = stack.base.random
        self.bare = not self._acting and not self._draws
        self._memories = self._start(games, accounts)
        self._heard: list[tuple[int, Tensor, Rows, Response]] = []

    def fork(self) -> StackOracle:
        """Another oracle with memories as these are now: what one of them hears later, the other does not.

        Raises:
            NotImplementedError: if a memory cannot be copied, as one that a process keeps.
        """
        made = copy.copy(self)
        made.stack = replace(self.stack, defenders=tuple(map(_copy_of, self.stack.defenders)))
        made._heard = []
        try:
            made._memories = copy.deepcopy(self._memories)
        except Exception as error:  # whatever a memory of a stranger's raises
            raise NotImplementedError(f"a memory of this stack cannot be copied: {error}") from error
        return made

    @asking("queries")
    def respond(self, x: Tensor, rows: Rows) -> Response:
        """The defended answers to images `x` [n,C,H,W]. Memories do not change before `commit`."""
        self._heard.clear()
        return self._pieces(x, rows, self._seeds, record=self.stateful)

    @property
    def answers_are_facts(self) -> bool:
        """Whether the same image always gets the same answer."""
        return self.stack.answers_are_facts

    @asking("verdicts")
    def fresh(self, x: Tensor, rows: Rows) -> Response:
        """What new clients would be answered: with draws apart from the game's, each by an empty memory."""
        if not self.stateful:
            return self._pieces(x, rows, self._verdict_seeds, record=False)
        # Memory changes in `commit` alone: all rows can be the first of the one game of an empty memory.
        first = replace(rows, game=torch.zeros_like(rows.game), account=torch.zeros_like(rows.account))
        kept, self._memories = self._memories, self._start(games=1, accounts=1)
        try:
            return self._pieces(x, first, self._verdict_seeds, record=False)
        finally:
            self._memories = kept

    @asking("verdicts")
    def again(self, x: Tensor, rows: Rows) -> Response:
        """What the clients of the games would be answered next: as `fresh`, but with memory as it stands."""
        return self._pieces(x, rows, self._verdict_seeds, record=False)

    def commit(self, kept: Tensor) -> None:
        """Let the defenders remember those rows of the last `respond` that are True in `kept` [n]."""
        for layer, x, rows, response in self._heard:
            defender = self.stack.defenders[layer]
            with blaming(defender, "remember"):
                mine = kept[rows.place]
                defender.remember(x[mine], rows[mine], pick(response, mine))
        self._heard.clear()

    def forget(self, games: Tensor) -> None:
        """Let the defenders forget `games` [m], where new ones are dealt."""
        for defender, memory in zip(self.stack.defenders, self._memories, strict=True):
            if defender.memory in ("game", "account"):
                with blaming(defender, "forget", is_unwritten):
                    defender.forget(memory, games.clone())

    @asking("verdicts")
    def base_labels(self, x: Tensor) -> Tensor:
        """[n] int64: the labels that the hardened classifier alone gives `x`."""
        with blaming_classifier(self.base.name):
            return labels_of(self.base(x))

    @asking("monitor")
    def base_scores(self, x: Tensor) -> Tensor:
        """[n,K] the scores that the hardened classifier alone gives `x`."""
        with blaming_classifier(self.base.name):
            return self.base(x)

    @asking("insider")
    def gradient(self, x: Tensor, goal: Tensor, loss: Loss, *, targeted: bool) -> tuple[Tensor, Tensor]:
        """Of the attacker's loss of the hardened classifier, at `x`: gradient [n,C,H,W], value [n].

        Args:
            goal: [n] the targets if `targeted`, else the labels to get away from.

        Raises:
            NotImplementedError: if torch cannot differentiate through the classifier.
        """
        gradient, value = torch.zeros_like(x), x.new_zeros(len(x))
        size = min(self.base.batch, GRADIENT_ROWS)
        for cut in range(0, len(x), size):
            piece = slice(cut, cut + size)
            point = x[piece].detach().clone().requires_grad_(True)
            try:
                with torch.enable_grad():
                    scores = self.base.differentiable(point)
                    if not scores.requires_grad:
                        self.base.require_gradients()
                    losses = attack_loss(scores, goal[piece], loss, targeted=targeted, logits=True)
                    total = losses.sum()
            except ClassifierError as error:
                raise NotImplementedError(str(error)) from error
            gradient[piece], value[piece] = torch.autograd.grad(total, point)[0], losses.detach()
        return gradient, value

    @asking("insider")
    def detector(self, x: Tensor) -> Tensor:
        """The scores [n] of the outermost detector in the stack.

        Raises:
            NotImplementedError: if no defender of the stack has a detector.
        """
        for defender in self.stack.defenders:
            if defender.has_detector():
                return self._detected(defender, x) if len(x) else x.new_zeros(0)
        raise NotImplementedError("no defender of this stack has a detector")

    def _detected(self, defender: Defender, x: Tensor) -> Tensor:
        with blaming(defender, "detector", self._is_the_base):
            found = defender.detector(x.clone(), self.base)
        if flaw_of(found) or found.shape != x.shape[:1] or not found.is_floating_point():
            who = class_of(defender)
            raise DefenderError(f"{who}.detector must give floats [{len(x)}]; found {in_words(found)}")
        return own(found)

    def _start(self, games: int, accounts: int) -> list[Any]:
        """Empty memories, one for each defender."""
        shape, device = (games, *self.stack.base.shape), torch.device(self.stack.base.device)
        memories = []
        for defender in self.stack.defenders:
            with blaming(defender, "start"):
                memories.append(defender.start(shape, accounts, device))
        return memories

    def _pieces(self, x: Tensor, rows: Rows, seeds: list[int], *, record: bool) -> Response:
        size = self.rows
        if not len(x):
            return Response(x.new_zeros((0, self.base.classes)))
        if self._acting:
            # A defender that works in place must not change what the Referee holds.
            x, rows = x.clone(), _copied(rows)
        if len(x) <= size:
            return self._layer(0, x, rows, seeds, record)
        parts = [
            self._layer(0, x[cut : cut + size], rows[cut : cut + size], seeds, record)
            for cut in range(0, len(x), size)
        ]
        return concatenated(parts)

    def _layer(self, place: int, x: Tensor, rows: Rows, seeds: list[int], record: bool) -> Response:
        """The answer of the acting defenders from `place` on."""
        if place == len(self._acting):
            return self._base_response(x, replace(rows, seed=seeds[-1]) if self._draws else rows)
        layer = self._acting[place]
        mine = replace(rows, seed=seeds[layer], memory=self._memories[layer])
        defender = self.stack.defenders[layer]

        def inner(z: Tensor, inside: Rows) -> Response:
            return self._layer(place + 1, *self._passed_on(defender, z, inside, place + 1), seeds, record)

        with blaming(defender, "respond", self._is_the_base), self._watch.within():
            response = defender.respond(x, mine, inner)
        taken = own_response(defender, response, len(x), self.base)
        if record and self._remembers[layer]:
            self._heard.append((layer, x, mine, response))
        return taken

    def _base_response(self, x: Tensor, rows: Rows) -> Response:
        keys = rows if self._draws else None
        try:
            with blaming_classifier(self.base.name):
                self._watch.asked(x, rows)
                # Whoever serves a move has looked at the modes; since then only defenders may have set any.
                if not self._acting or modes() == self._home:
                    return Response(self.base(x, keys))
                with back_in(self._home):  # a defender may ask within an autocast of its own
                    return Response(self.base(x, keys))
        except BaseException as error:
            if _is_fair(x, self.base):  # else the defender that asked should have known better
                self._failed = error
            raise

    def _passed_on(self, defender: Defender, z: object, rows: object, place: int) -> tuple[Tensor, Rows]:
        """The images and rows that a defender asks the rest of the stack about, which begins at `place`."""
        who, base = class_of(defender), self.base
        if flaw_of(z) or not isinstance(z, Tensor) or len(z.shape) != 4:
            raise DefenderError(f"defender {who} must ask about images [n,C,H,W]; found {in_words(z)}")
        if z.dtype != torch.float32 or z.device != base.device:
            raise DefenderError(
                f"defender {who} must ask about float32 images on {base.device}; found {in_words(z)} on "
                f"{z.device}"
            )
        if not isinstance(rows, Rows) or len(rows) != len(z):
            found = len(rows) if isinstance(rows, Rows) else type(rows).__name__
            raise DefenderError(f"defender {who} must ask about one row for each image; found {found}")
        if place < len(self._acting):
            # One further in that works in place must not change what this one holds.
            return z.clone(), _copied(rows)
        return z, rows

    def _is_the_base(self, error: BaseException) -> bool:
        """Whether `error` is the classifier's own failure, on its way through defenders."""
        return error is self._failed


def _copy_of(defender: Defender) -> Defender:
    with blaming(defender, "__copy__"):
        return copy.copy(defender)


def _is_fair(x: Tensor, base: Classifier) -> bool:
    """Whether a classifier has to answer images `x` [n,C,H,W]."""
    return x.shape[1:] == base.shape and bool(x.isfinite().all())


def _copied(rows: Rows) -> Rows:
    tensors = {name: getattr(rows, name).clone() for name in ("game", "key", "turn", "account", "place")}
    draw = rows.draw.clone() if isinstance(rows.draw, Tensor) else rows.draw
    return replace(rows, draw=draw, **tensors)
