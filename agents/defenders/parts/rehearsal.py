"""An attacker plays against an undefended classifier, so that a defender may learn its queries."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.game.checks import Checks
from arena.game.driver import Host, drive
from arena.players import Answers, Attacker, Games, Move, Resign, Resources, Submit, Threat, Volley
from arena.rules.outcome import Bools, Reason, labels_of
from arena.rules.threat import Norm

BUDGET = 2**24
"""Queries a game; in practice the listener or the attacker ends it."""

MoveListener = Callable[[object], Tensor]
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
    """Play untargeted games around images `x0` [G,C,H,W] of the classes `label` [G]; only labels are
    answered.

    There are no verdicts and no log. The listener, the attacker or `BUDGET` ends a game.

    Args:
        key: [G] int64, the keys of the games' draws; None: their places.

    Raises:
        AttackerError: if the attacker's code fails, or asks for an insider's knowledge.
        ValueError: if it goes on with moves of which none is granted.
    """
    host = Rehearsal(classifier, x0, listener, max_rows)
    threat = Threat(norm=norm, epsilon=math.inf, budget=BUDGET, feedback="label", objective="minimum")
    if play(attacker, host, x0, label, threat, seed=seed, key=key, resources=resources) == "stalled":
        raise ValueError(
            f"{type(attacker).__name__} stalled in a rehearsal: its moves brought no answer any more"
        )


def play(
    attacker: Attacker,
    host: Rehearsal,
    x0: Tensor,
    label: Tensor,
    threat: Threat,
    *,
    seed: int = 0,
    key: Tensor | None = None,
    resources: Resources | None = None,
) -> Reason:
    """Let `attacker` play a rehearsal's games, by `key` and errors as `rehearse`; the reason for which those
    that are still open end."""
    seat = Games(
        x0,
        label,
        threat,
        classes=host.classifier.classes,
        state=host.state(),
        key=key,
        seed=seed,
        max_rows=host.checks.max_rows,
        resources=resources,
    )
    return drive(attacker, seat, host)


class Rehearsal(Host):
    """Answers with labels of a classifier, and lets a listener end games."""

    def __init__(self, classifier: Classifier, x0: Tensor, listener: MoveListener, max_rows: int) -> None:
        self.classifier, self.listener = classifier, listener
        self.checks = Checks(x0, accounts=1, max_rows=max_rows)
        self.queries = np.zeros(len(x0), dtype=np.int64)
        self._open = np.ones(len(x0), dtype=bool)
        self._none = torch.zeros(0, dtype=torch.int64, device=x0.device)

    @property
    def open(self) -> Bools:
        return self._open

    def serve(self, move: Move) -> Answers:
        """Let the listener see the move, then answer it; a malformed one it does not see."""
        if isinstance(move, Volley):
            volley = self.checks.volley(move)
            self._end(self.listener(volley))
            return self.ask(volley)
        served = self.own(move)
        self._end(self.listener(served))
        return self.reply(served)

    def ask(self, volley: Volley) -> Answers:
        game = volley.game
        asked = torch.from_numpy(self._open).to(game.device)[game]
        label = torch.full_like(game, -1)
        label[asked] = labels_of(self.classifier(volley.x[asked]))
        self.granted = int(asked.sum())
        self.queries += np.bincount(game[asked].cpu().numpy(), minlength=len(self.queries))
        self._open &= self.queries < BUDGET
        return self._standing(game, label, asked)

    def submit(self, move: Submit) -> None:
        """End games, without verdicts."""
        self._end(move.game)

    def resign(self, move: Resign) -> None:
        self._end(move.game)

    def state(self) -> Answers:
        return self._standing(self._none, self._none, self._none.bool())

    def _end(self, games: Tensor) -> None:
        self._open[games.cpu().numpy()] = False

    def _standing(self, game: Tensor, label: Tensor, answered: Tensor) -> Answers:
        is_open = torch.from_numpy(self._open.copy()).to(game.device)
        return Answers(
            game=game,
            label=label,
            scores=None,
            answered=answered,
            refused=torch.zeros_like(answered),
            left=torch.from_numpy(BUDGET - self.queries).to(game.device),
            open=is_open,
            playing=is_open.nonzero().squeeze(1),
            banned=torch.zeros_like(is_open).unsqueeze(1),
        )
