"""Moves that are malformed in one way each."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from arena.rules.moves import Claim, Consult, Note, Resign, Submit, Volley
from arena.rules.threat import Threat
from bench.books.plays import BROKEN_VOLLEYS, Play


class Ground(Protocol):
    """Where a move is made."""

    play: Play
    threat: Threat


def move(how: str, x: Tensor, game: Tensor, account: Tensor, ground: Ground) -> Any:
    """The rows `x` [n,1,2,2], `game`, `account` [n] as a move that is broken as `how` says; n >= 1."""
    if how in BROKEN_VOLLEYS:
        return Volley(**_volley(how, x, game, account, ground))
    moves: dict[str, Any] = {
        "submit twice": Submit(x[:1].repeat(2, 1, 1, 1), game[:1].repeat(2)),
        "claim NaN": Claim(torch.full_like(x[:1], torch.nan), game[:1]),
        "submit no such game": Submit(x[:1], game[:1] + 100),
        "resign for no reason": Resign(game, "tired"),  # type: ignore[arg-type]
        "resign no such game": Resign(game - 100),
        "note a list": Note("key", [1.0], game),  # type: ignore[arg-type]
        "note without a key": Note(None, 1.0, game),  # type: ignore[arg-type]
        "consult nobody": Consult(x, game, "oracle"),  # type: ignore[arg-type]
        "not a move": (x, game),
    }
    return moves[how]


def _volley(how: str, x: Tensor, game: Tensor, account: Tensor, ground: Ground) -> dict[str, Any]:
    x, game, account, last = x.clone(), game.clone(), account.clone(), len(x) - 1
    whole: dict[str, Any] = {"x": x, "game": game, "account": account, "purpose": "broken"}
    values = {"NaN": torch.nan, "above 1": 1.001, "below 0": -0.001}
    if how in values:
        x[last, 0, 1, 0] = values[how]
    elif how == "no such game":
        game[last] = len(ground.play.x0)
    elif how == "negative game":
        game[last] = -1
    elif how == "no such account":
        account[last] = ground.threat.accounts
    elif how == "too many rows":
        many = ground.play.max_rows // len(x) + 1
        whole |= {"x": x.repeat(many, 1, 1, 1), "game": game.repeat(many), "account": account.repeat(many)}
    else:
        others: dict[str, dict[str, Any]] = {
            "float64": {"x": x.double()},
            "int32 games": {"game": game.int()},
            "fewer games": {"game": game[1:]},
            "another shape": {"x": x.flatten(2)},
            "no text": {"purpose": 3},
            "not a tensor": {"x": x.numpy()},
        }
        whole |= others[how]
    return whole
