"""The scalars of a volley are the same wherever the device is, and leave it by one copy."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from arena.game.board import Board
from arena.game.checks import _FLAWS, Checks
from arena.game.ledger import RowScalars
from arena.game.openings import Openings
from arena.game.scalars import Found, row_scalars
from arena.game.waves import Wave
from arena.players import Response, Rows
from arena.rules.moves import VolleyError
from arena.rules.threat import Threat

CLEAN = [0.0] * len(_FLAWS)


class Elsewhere(Board):
    """As if on another device, whose memory is the host's."""

    @property
    def on_host(self) -> bool:
        return False


def scalars(
    worlds: ModuleType, kind: type[Board], *, monitored: bool, flaws: list[float] | None = None
) -> RowScalars:
    x0 = worlds.images([(8, 4, 8, 4), (4, 12, 4, 8)])
    game = torch.tensor([1, 0, 1])
    board = kind(Openings(x0, torch.tensor([0, 1]), torch.tensor([5, 6])), Threat(epsilon=1, budget=9))
    zeros = torch.zeros_like(game)
    rows = Rows(game, board.key[game], zeros + 1, zeros, torch.arange(3))
    found = None if flaws is None else torch.tensor(flaws)
    wave = Wave(x0[game] + torch.rand(3, 1, 1, 1) / 8, rows, torch.tensor([0, 0, 1]), "p", found)
    response = Response(torch.rand(3, 3), flagged=torch.tensor([True, False, False]))
    margins = torch.tensor([0.5, float("nan"), -float("inf")]), torch.tensor([-1.25, 2.5, float("nan")])
    told = Found(torch.tensor([2, 1, -1]), margins[0], margins[1] if monitored else None)
    return row_scalars(board, Checks(x0, 1, 8), wave, response, told, digested=True)


@pytest.mark.parametrize("monitored", [False, True])
def test_one_copy_brings_what_the_host_would_have_read(
    worlds: ModuleType, monitored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    here = scalars(worlds, Board, monitored=monitored)
    copies: list[Tensor] = []
    copy = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: copies.append(tensor) or copy(tensor))
    torch.manual_seed(0)
    there = scalars(worlds, Elsewhere, monitored=monitored, flaws=CLEAN)
    assert len(copies) == 1
    for f in fields(RowScalars):
        one, other = getattr(here, f.name), getattr(there, f.name)
        if one is None:
            assert other is None and f.name == "margin_base" and not monitored
        else:
            assert one.dtype == other.dtype, f.name
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), f.name
    if monitored:
        assert here.margin_base is not None and here.margin_base[:2].tolist() == [-1.25, 2.5]
    assert here.flagged.tolist() == [True, False, False] and not here.refused.any()


@pytest.mark.parametrize("kind", [Board, Elsewhere])
def test_a_wave_with_flaws_is_not_accepted(worlds: ModuleType, kind: type[Board]) -> None:
    with pytest.raises(VolleyError):
        scalars(worlds, kind, monitored=True, flaws=[0.0, 1.0, *CLEAN[2:]])
