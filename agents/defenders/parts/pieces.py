"""Rows in pieces: what a defender asks about at a time, where it asks about several images for each row."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from torch import Tensor

from arena.players import Inner, Response, Rows
from arena.players.response import concatenated

ROWS = 1024
"""Images asked about at a time, at most, and"""
VALUES = 2**26
"""their pixel values: 256 MiB."""

Responding = Callable[[Tensor, Rows, Inner], Response]


def rows_at_a_time(x: Tensor) -> int:
    """How many images of the size of `x` [n,C,H,W] are asked about at a time."""
    return max(1, min(ROWS, VALUES // max(1, prod(x.shape[1:]))))


def in_pieces(x: Tensor, rows: Rows, inner: Inner, each: int, respond: Responding) -> Response:
    """What `respond` answers to images `x` [n,C,H,W], each of which it makes `each` images of to ask about,
    given as many at a time as make no more than `rows_at_a_time`, or one."""
    count = max(1, rows_at_a_time(x) // each)
    if len(x) <= count:
        return respond(x, rows, inner)
    cuts = [slice(first, first + count) for first in range(0, len(x), count)]
    return concatenated([respond(x[cut], rows[cut], inner) for cut in cuts])
