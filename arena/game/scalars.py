"""The scalars of a volley's rows, from the device to the host's books by one copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.game.board import Board
from arena.game.checks import Checks
from arena.game.ledger import RowScalars
from arena.game.waves import Wave
from arena.players.response import Response
from arena.rules.geometry import digests, distances

_HALF = 24
"""Bits of a whole number that float32 holds, in which scalars leave a device."""
_WHOLE, _REAL, _FLAGS, _HALVES = slice(0, 4), slice(4, 7), slice(7, 11), slice(11, 13)
"""The columns of each kind in a copy; after them comes the monitor's, if there is one."""


@dataclass(frozen=True, eq=False)
class Found:
    """What the Referee found in the response to a wave, [n] each.

    Attributes:
        label: -1 for none.
        margin: of the defended scores; margin_base: of the hardened classifier alone, None: not asked for.
    """

    label: Tensor
    margin: Tensor
    margin_base: Tensor | None


def row_scalars(
    board: Board, checks: Checks, wave: Wave, response: Response, found: Found, *, digested: bool
) -> RowScalars:
    """The rows' scalars on the host.

    Args:
        digested: whether images get digests on the CPU too, where they are no part of a copy.

    Raises:
        VolleyError: if the wave has flaws, which are read with all else.
    """
    rows = wave.rows
    l2, linf = distances(wave.x, board.x0.index_select(0, rows.game))
    whole = [rows.game, wave.rank, rows.account, found.label]
    real = [found.margin, l2, linf]
    raised = [response.given(name) for name in ("refused", "flagged", "banned")]
    if board.on_host:
        if wave.flaws is not None:
            checks.reject(wave.flaws.tolist())
        none = np.zeros(len(found.label), dtype=bool)
        # Copies: what players hold and may write to is not what the books and the log are made of.
        game, rank, account, label = (column.numpy().copy() for column in whole)
        measured = (column.numpy().astype(np.float64) for column in real)
        flags = (none if flag is None else flag.numpy().copy() for flag in raised)
        digest = digests(wave.x).numpy() if digested else None
        base = None if found.margin_base is None else found.margin_base.numpy().astype(np.float64)
        books: list[Any] = [game, rank, account, label, *measured, board.wins(label, game), *flags]
        return RowScalars(*[*books, digest, base])
    no, winning, both = torch.zeros_like(l2), board.wins(found.label, rows.game), digests(wave.x)
    columns = [*whole, *real, winning, *(no if flag is None else flag for flag in raised)]
    columns += [both >> _HALF, both & (2**_HALF - 1)]
    if found.margin_base is not None:
        columns.append(found.margin_base)
    return _unpacked(_copied(torch.stack([column.to(torch.float32) for column in columns]), checks, wave))


def _copied(packed: Tensor, checks: Checks, wave: Wave) -> NDArray[np.float64]:
    """A wave's columns [m,n] on the host, by the one copy of a volley, which its flaws ride in."""
    if wave.flaws is None:
        return packed.cpu().numpy().astype(np.float64)
    flat = torch.cat([packed.flatten(), wave.flaws]).cpu().numpy()
    checks.reject(flat[packed.numel() :].tolist())
    return flat[: packed.numel()].reshape(packed.shape).astype(np.float64)


def _unpacked(host: NDArray[np.float64]) -> RowScalars:
    (high, low), base = host[_HALVES].astype(np.int64), host[-1] if len(host) > _HALVES.stop else None
    scalars: list[Any] = [*host[_WHOLE].astype(np.int64), *host[_REAL], *(host[_FLAGS] > 0)]
    return RowScalars(*[*scalars, high << _HALF | low, base])
