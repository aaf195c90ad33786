"""The moves an attacker sends to the Referee, and the answers it gets (docs/design.md, D1).

G is the number of games at a seat, n a number of rows, K the number of classes. Tensors are on the seat's
device; `game` and `account` are int64, images float32 in [0,1].
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from arena.rules.losses import Loss


class VolleyError(ValueError):
    """A malformed move: it was rejected whole and nothing was charged. Thrown into the attacker."""


@dataclass(frozen=True, eq=False)
class Volley:
    """Queries: images `x` [n,C,H,W], each for one `game` [n], from one `account` [n] (0 if None).

    Rows of one game count in row order. `purpose` is a word for the log, such as "gradient".
    """

    x: Tensor
    game: Tensor
    account: Tensor | None = None
    purpose: str = ""


@dataclass(frozen=True, eq=False)
class Submit:
    """The final images `x` [n,C,H,W] of games `game` [n] (each once), which end with reason `submitted`."""

    x: Tensor
    game: Tensor


@dataclass(frozen=True, eq=False)
class Claim:
    """The images `x` [n,C,H,W] by which games `game` [n] (each once) are to be judged from now on.

    The games go on; the next claim replaces this one. Where answers are no facts (`answers_are_facts` of a
    seat), one may be luck, and the nearest wrong answer is the luckiest: there a claim replaces the best
    answer as the game's result. Where an answered hit is a fact, and under objective `first`, claims change
    nothing.
    """

    x: Tensor
    game: Tensor


@dataclass(frozen=True, eq=False)
class Resign:
    """The end of games `game` [n]: `resigned` or, if no starting point was found, `no-start`."""

    game: Tensor
    reason: Literal["resigned", "no-start"] = "resigned"


@dataclass(frozen=True, eq=False)
class Note:
    """A remark for the log about games `game` [n]: `key`, and one `value` for all or a tensor [n].

    The Referee knows the key "accepted": the attacker's own rule accepted the last answers to these games, in
    the last volley, of which one was a hit (`accepted_at` in the log).
    """

    key: str
    value: str | float | Tensor
    game: Tensor


@dataclass(frozen=True, eq=False)
class Consult:
    """Insider evaluations of images `x` [n,C,H,W] for games `game` [n] (docs/design.md, D5): metered, not
    charged.

    `detector` asks for the defender's detector scores (knowledge `detector` or `weights`); `gradient` for
    the gradient of the loss `loss` of the hardened classifier, and its value (knowledge `weights`).
    """

    x: Tensor
    game: Tensor
    what: Literal["detector", "gradient"] = "detector"
    loss: Loss = "margin"


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers to a move, and the state of the games after it.

    Attributes:
        game: [n] the rows' games, as sent.
        label: [n] int64, the label answered; -1 where none was.
        scores: [n,K] logits or probabilities as the feedback allows, None under `label`. Under `topk`,
            classes not shown carry 0. NaN if no label was given.
        answered: [n] bool: charged and answered.
        refused: [n] bool: charged and refused.
        left: [G] int64, queries left.
        open: [G] bool.
        playing: int64, the indices of the open games in ascending order.
        banned: [G,A] bool, the accounts that were closed.
        repeats: [M,n,K], the scores of the M repeats behind `scores`, where a wrapper asked M times.
        insight: the result of a Consult: detector scores [n], or gradients [n,C,H,W].
        loss: [n], with gradients: the values of the loss whose gradients they are.
    """

    game: Tensor
    label: Tensor
    scores: Tensor | None
    answered: Tensor
    refused: Tensor
    left: Tensor
    open: Tensor
    playing: Tensor
    banned: Tensor
    repeats: Tensor | None = None
    insight: Tensor | None = None
    loss: Tensor | None = None


Move: TypeAlias = Volley | Submit | Claim | Resign | Note | Consult
Play: TypeAlias = Generator[Move, Answers, None]
Asking: TypeAlias = Generator[Move, Answers, Answers]
