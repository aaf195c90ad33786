"""An attacker plays against an undefended classifier, so that a defender may learn what it asks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.players import Answers, Attacker, Consult, Games, Move, Resign, Resources, Submit, Threat, Volley
from arena.rules.threat import Norm

BUDGET = 2**24
"""Queries a game: no end to the play but the listener's, or the attacker's own."""

MoveListener = Callable[[Move], Tensor]
"""Sees each move before it is answered; returns the games [m] int64 that end with it."""


def rehearse(
    attacker: Attacker,
    classifier: Classifier,
    x0: Tensor,
    label: Tensor,
    norm: Norm,
    listener: MoveListener,
    *,
    seed: int = 0,
    key: Tensor | None = None,
    resources: Resources | None = None,
    max_rows: int = 4096,
) -> None:
    """Play untargeted games around images `x0` [G,C,H,W] of the classes `label` [G], labels alone answered.

    Nothing is judged and nothing logged. Games end where the listener, the attacker or `BUDGET` ends them.

    Args:
        key: [G] int64, what the games' draws are keyed to; None: their places.

    Raises:
        TypeError: if the attacker asks for an insider's knowledge.
    """
    threat = Threat(norm=norm, epsilon=math.inf, budget=BUDGET, feedback="label", objective="minimum")
    open_ = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
    left = torch.full_like(label, BUDGET)
    none = label[:0]
    games = Games(
        x0,
        label,
        threat,
        classes=classifier.classes,
        state=_standing(none, none, none.bool(), left, open_),
        key=key,
        seed=seed,
        max_rows=max_rows,
        resources=resources,
    )
    play, reply = attacker.play(games), None
    while reply is None or bool(open_.any()):
        try:
            move = next(play) if reply is None else play.send(reply)
        except StopIteration:
            return
        open_[listener(move)] = False
        if isinstance(move, Submit | Resign):
            open_[move.game] = False
        if isinstance(move, Consult):
            raise TypeError(f"{type(attacker).__name__} consults an insider; a rehearsal has none")
        if isinstance(move, Volley):
            game, asked = move.game, open_[move.game]
            found = torch.full_like(game, -1)
            found[asked] = _labels(classifier(move.x[asked]))
            left.index_add_(0, game, -asked.long())
            open_ &= left > 0
            reply = _standing(game, found, asked, left, open_)
        else:
            reply = _standing(none, none, none.bool(), left, open_)


def _standing(game: Tensor, label: Tensor, answered: Tensor, left: Tensor, open_: Tensor) -> Answers:
    return Answers(
        game=game,
        label=label,
        scores=None,
        answered=answered,
        refused=torch.zeros_like(answered),
        left=left.clone(),
        open=open_.clone(),
        playing=open_.nonzero().squeeze(1),
        banned=torch.zeros_like(open_).unsqueeze(1),
    )


def _labels(logits: Tensor) -> Tensor:
    """The argmax of logits [n,K]; -1 where a row holds NaN."""
    return torch.where(logits.isnan().any(dim=1), -1, logits.argmax(dim=1))
