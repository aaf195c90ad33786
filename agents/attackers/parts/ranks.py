"""Rows of one game among those of others."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_within(game: Tensor) -> Tensor:
    """[n] how many earlier entries of `game` [n] are equal to each."""
    ordered, order = game.sort(stable=True)
    rank = torch.arange(len(game), device=game.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(rank).scatter_(0, order, rank)
