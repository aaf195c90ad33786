"""An attacker's seat: what it knows about its games, and the methods that make its moves."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from arena import draws
from arena.rules import geometry
from arena.rules.losses import Loss, attack_loss
from arena.rules.moves import Answers, Asking, Claim, Consult, Move, Note, Resign, Submit, Volley, VolleyError
from arena.rules.outcome import wins
from arena.rules.threat import Threat


@dataclass(frozen=True, eq=False)
class Resources:
    """An attacker's own resources (docs/design.md, D5).

    Attributes:
        images: [m,C,H,W] labelled images of its own, disjoint from all other splits.
        labels: [m] int64.
        starts: [G,C,H,W] a starting image for each game; NaN if none was found.
        surrogates: reference networks, images [n,C,H,W] float32 in [0,1] -> logits [n,K], in evaluation mode,
            differentiable in their images and not in their weights.
    """

    images: Tensor | None = None
    labels: Tensor | None = None
    starts: Tensor | None = None
    surrogates: tuple[nn.Module, ...] = ()

    def copy(self) -> Resources:
        """These resources in memory of their own."""
        images, labels, starts = (
            None if tensor is None else tensor.clone() for tensor in (self.images, self.labels, self.starts)
        )
        return Resources(images, labels, starts, tuple(copy.deepcopy(one) for one in self.surrogates))


EMPTY_MOVES = 10_000
"""Moves about no games in a row from which on they reach the host, which stops who makes no others."""

_ROWS = ("game", "label", "scores", "answered", "refused", "insight", "loss")


class Games:
    """The games of a shard as their attacker sees them: G games, first axis of every tensor.

    Attributes:
        x0: [G,C,H,W] clean images.
        label: [G] int64, their true labels y.
        target: [G] int64 target labels, None when untargeted.
        key: [G] int64, the games' numbers, to which draws are keyed.
        classes: the number of classes K.
        threat: the rules.
        answers_are_facts: whether the same image always gets the same answer: the defender is neither random
            nor does it remember. Where they are not, one wrong answer may be luck, and an image needs more
            than that to be stood by (`claim`). Also True where the threat says `trust_answers`.
        max_rows: the longest Volley allowed; `ask` cuts longer ones.
        kept: what the procedures of the attacker at this seat keep for one another, by name.
        defense: names and parameters of the defenders if `knowledge` grants them, else None.
        resources: the attacker's own images, starting points and reference networks.
    """

    def __init__(
        self,
        x0: Tensor,
        label: Tensor,
        threat: Threat,
        *,
        classes: int,
        state: Answers,
        target: Tensor | None = None,
        key: Tensor | None = None,
        seed: int = 0,
        max_rows: int = 4096,
        answers_are_facts: bool = True,
        defense: dict[str, Any] | None = None,
        resources: Resources | None = None,
    ) -> None:
        self.x0, self.label, self.target, self.threat, self.classes = x0, label, target, threat, classes
        self.key = torch.arange(len(x0), device=x0.device) if key is None else key
        self.seed, self.max_rows, self.defense = seed, max_rows, defense
        self.answers_are_facts = answers_are_facts
        self.kept: dict[str, Any] = {}
        self._outer: tuple[Games, Tensor | slice] | None = None
        self.resources = resources or Resources()
        self.state = state
        self._all = torch.arange(len(x0), device=x0.device)
        self._drawn = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
        self._seats = self._empty = 0

    def __len__(self) -> int:
        return len(self.x0)

    @property
    def open(self) -> Tensor:
        """Index of the games still open, ascending, as of the last answers."""
        return self.state.playing

    @property
    def left(self) -> Tensor:
        """[G] int64, queries left, as of the last answers."""
        return self.state.left

    @property
    def charged(self) -> Tensor:
        """[G] int64, queries charged so far: behind wrappers that repeat rows, those of the service."""
        here = self.threat.budget - self.state.left
        if self._outer is None:
            return here
        games, i = self._outer
        return torch.maximum(here, games.charged[i])

    # Moves

    def ask(
        self, x: Tensor, i: Tensor | None = None, purpose: str = "", account: Tensor | None = None
    ) -> Asking:
        """Query images `x` [n,C,H,W] for games `i` [n] (None: all, in order) and keep the answers."""
        i = self._all if i is None else i
        if len(x) == len(i) == 0:
            return (yield from self._nothing(i))
        if len(x) <= self.max_rows:
            self._empty = 0
            self.state = answers = yield Volley(x, i, account, purpose)
            return answers
        self._check_lengths(x, i, account)
        parts: list[Answers] = []
        for cut in range(0, len(x), self.max_rows):
            rows = slice(cut, cut + self.max_rows)
            if parts and not self.state.open[i[rows]].any():
                parts.append(self._unasked(i[rows]))
                continue
            of = None if account is None else account[rows]
            parts.append((yield from self._move(Volley(x[rows], i[rows], of, purpose))))
        return join(parts)

    def fools(
        self, x: Tensor, i: Tensor | None = None, purpose: str = ""
    ) -> Generator[Move, Answers, Tensor]:
        """Query `x` [n,C,H,W] for games `i` [n] (None: all): [n] bool, answered with a label that wins.

        Rows of closed games are not sent; they are False.
        """
        i = self._all if i is None else i
        alive = self.state.open[i]
        if bool(alive.all()):
            return self.wrong((yield from self.ask(x, i, purpose)))
        fooled = torch.zeros_like(alive)
        fooled[alive] = self.wrong((yield from self.ask(x[alive], i[alive], purpose)))
        return fooled

    def submit(self, x: Tensor, i: Tensor) -> Asking:
        """Hand in the final images `x` [n,C,H,W] of games `i` [n]."""
        return (yield from (self._move(Submit(x, i)) if len(i) else self._nothing(i)))

    def claim(self, x: Tensor, i: Tensor) -> Asking:
        """Stand by images `x` [n,C,H,W]: games `i` [n] would be judged by them if they ended now."""
        return (yield from (self._move(Claim(x, i)) if len(i) else self._nothing(i)))

    def resign(self, i: Tensor, reason: Literal["resigned", "no-start"] = "resigned") -> Asking:
        """Give up games `i` [n]."""
        return (yield from (self._move(Resign(i, reason)) if len(i) else self._nothing(i)))

    def note(self, key: str, value: str | float | Tensor, i: Tensor) -> Asking:
        """Leave a remark about games `i` [n] in the log."""
        return (yield from (self._move(Note(key, value, i)) if len(i) else self._nothing(i)))

    def consult(
        self,
        x: Tensor,
        i: Tensor | None = None,
        what: Literal["detector", "gradient"] = "detector",
        loss: Loss = "margin",
    ) -> Asking:
        """Evaluate `x` [n,C,H,W] as an insider; `insight` of the answers holds the result.

        With gradients, `loss` holds the values of the loss.
        """
        i = self._all if i is None else i
        self._check_lengths(x, i)
        parts: list[Answers] = []
        for cut in range(0, max(1, len(x)), self.max_rows):
            rows = slice(cut, cut + self.max_rows)
            parts.append((yield from self._move(Consult(x[rows], i[rows], what, loss))))
        return join(parts)

    def parts(self, count: int, games: int) -> Iterator[int]:
        """Cut `count` rows for each of `games` games into pieces of at most `max_rows` rows."""
        size = max(1, self.max_rows // max(1, games))
        for done in range(0, count, size):
            yield min(size, count - done)

    def _move(self, move: Move) -> Asking:
        self._empty = 0 if isinstance(move, Volley | Consult) and len(move.x) else self._empty
        self.state = answers = yield move
        return answers

    def _nothing(self, i: Tensor) -> Asking:
        """A move about no games, which is not made; after too many in a row the host is asked to end it."""
        self._empty += 1
        if self._empty < EMPTY_MOVES:
            return self._unasked(i)
        return (yield from self._move(Volley(self.x0[:0], i)))

    def _check_lengths(self, x: Tensor, i: Tensor, account: Tensor | None = None) -> None:
        # A move that is cut must be right as a whole before its first piece is charged.
        if len(x) != len(i) or (account is not None and len(x) != len(account)):
            accounts = "" if account is None else f" and {len(account)} accounts"
            raise VolleyError(f"one game for each image; found {len(x)} images, {len(i)} games{accounts}")

    def _unasked(self, i: Tensor) -> Answers:
        """Answers for rows of games `i` [n] that need not be sent: none of them is answered."""
        no = torch.zeros_like(i, dtype=torch.bool)
        scores = None
        if self.threat.feedback != "label":
            scores = self.x0.new_full((len(i), self.classes), torch.nan)
        return replace(
            self.state,
            game=i,
            label=torch.full_like(i, -1),
            scores=scores,
            answered=no,
            refused=no,
            repeats=None,
            insight=None,
            loss=None,
        )

    # Geometry and loss

    def loss(self, answers: Answers, kind: Loss = "margin") -> Tensor:
        """The loss to minimise [n] of the answered rows (`arena.rules.losses`); a `margin` is below 0 where
        the label is wrong.

        The mean over the repeats, if there are any. +inf if the row was not answered or holds NaN.

        Raises:
            ValueError: if the feedback is `label`.
        """
        if answers.scores is None:
            raise ValueError('a loss needs scores; the feedback of this game is "label"')
        y = self.label if self.target is None else self.target
        of = y[answers.game]
        told: dict[str, bool] = {
            "targeted": self.threat.targeted,
            "logits": self.threat.feedback == "logits",
            "partial": self.threat.top_k is not None,
        }
        if answers.repeats is None:
            loss = attack_loss(answers.scores, of, kind, **told)
        else:
            m, n, k = answers.repeats.shape
            loss = attack_loss(answers.repeats.reshape(m * n, k), of.repeat(m), kind, **told)
            loss = loss.view(m, n).nanmean(dim=0)
        return torch.where(answers.answered, loss, torch.inf).nan_to_num_(nan=torch.inf, posinf=torch.inf)

    def wrong(self, answers: Answers) -> Tensor:
        """[n] bool: the label answered wins: it is not y (untargeted), or is the target (targeted)."""
        target = None if self.target is None else self.target[answers.game]
        return wins(answers.label, self.label[answers.game], target)

    def winning(self, game: Tensor) -> Tensor:
        """[n,K] bool: which of the K labels win the games at `game` [n]."""
        label = torch.arange(self.classes, device=game.device)
        target = None if self.target is None else self.target[game].unsqueeze(1)
        return wins(label, self.label[game].unsqueeze(1), target)

    @property
    def epsilon(self) -> float:
        """The radius that sent images can reach: in linf, on 8-bit levels, a whole number of levels."""
        return geometry.reach(self.threat.norm, self.threat.epsilon, self.threat.quantisation)

    def project(self, x: Tensor, i: Tensor | None = None) -> Tensor:
        """`x` [n,C,H,W] of games `i` [n] brought into the ball, as the service sees it, and into [0,1]."""
        x0, rules = self.x0 if i is None else self.x0[i], self.threat
        return geometry.project(x, x0, rules.norm, rules.epsilon, rules.quantisation)

    def distance(self, x: Tensor, i: Tensor | None = None) -> Tensor:
        """The distance [n] of `x` [n,C,H,W] from the clean images of games `i` [n], in the threat's norm."""
        return geometry.distance(x, self.x0 if i is None else self.x0[i], self.threat.norm)

    # Draws, the same for a game whatever else is in the batch. `i` names a game at most once.

    def uniform(self, shape: Sequence[int], i: Tensor | None = None) -> Tensor:
        """Uniform on [0,1), [n,*shape]."""
        key, turn = self._next_draw(i)
        return draws.uniform(self.seed, key, turn, shape)

    def normal(self, shape: Sequence[int], i: Tensor | None = None) -> Tensor:
        """Standard normal, [n,*shape]."""
        key, turn = self._next_draw(i)
        return draws.normal(self.seed, key, turn, shape)

    def integers(self, high: int, shape: Sequence[int], i: Tensor | None = None) -> Tensor:
        """Uniform on {0, ..., high - 1}, int64 [n,*shape]."""
        key, turn = self._next_draw(i)
        return draws.integers(high, self.seed, key, turn, shape)

    def _next_draw(self, i: Tensor | None) -> tuple[Tensor, Tensor]:
        if i is None:
            turn = self._drawn.clone()
            self._drawn += 1
            return self.key, turn
        turn = self._drawn[i]
        self._drawn[i] = turn + 1
        return self.key[i], turn

    # Seats for the attackers inside a wrapper

    def with_budget(self, budget: int) -> Games:
        """A seat over the same games for an inner attacker that sees a budget of `budget` queries a game."""
        return self._seat(slice(None), self.threat.with_budget(budget), self._share(budget))

    def take(self, i: Tensor) -> Games:
        """A seat over games `i` [g] alone, numbered from 0 in that order."""
        state = restrict(self.state, i)
        return self._seat(i, self.threat, state)

    def _share(self, budget: int) -> Answers:
        return replace(self.state, left=self.state.left.clamp_max(budget))

    def _seat(self, i: Tensor | slice, threat: Threat, state: Answers) -> Games:
        self._seats += 1
        held = self.resources
        seat = Games(
            self.x0[i],
            self.label[i],
            threat,
            classes=self.classes,
            state=state,
            target=None if self.target is None else self.target[i],
            key=self.key[i],
            seed=draws.derive(self.seed, "seat", self._seats),
            max_rows=self.max_rows,
            answers_are_facts=self.answers_are_facts,
            defense=self.defense,
            resources=held if held.starts is None else replace(held, starts=held.starts[i]),
        )
        seat._outer = (self, i)
        return seat


def join(parts: Sequence[Answers]) -> Answers:
    """The answers to consecutive pieces of one move as one answer, with the state after the last piece."""
    if len(parts) == 1:
        return parts[0]

    def rows(name: str, dim: int = 0) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if any(f is None for f in found) else torch.cat(found, dim)

    columns: dict[str, Any] = {name: rows(name) for name in _ROWS}
    return replace(parts[-1], **columns, repeats=rows("repeats", 1))


def restrict(state: Answers, i: Tensor) -> Answers:
    """The state of games `i` [g], numbered from 0 in that order, without rows."""
    is_open = state.open[i]
    none = torch.zeros(0, dtype=torch.bool, device=i.device)
    empty = i[:0]
    return Answers(
        game=empty,
        label=empty,
        scores=None,
        answered=none,
        refused=none,
        left=state.left[i],
        open=is_open,
        playing=is_open.nonzero().squeeze(1),
        banned=state.banned[i],
    )
