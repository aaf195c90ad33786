"""Perlin noise for whole batches: smooth random patterns of one scale, cheap enough for every candidate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DIRECTIONS = 4
"""Gradients at the nodes of the lattice: up, down, right, left."""


class Perlin:
    """Perlin's improved noise (SIGGRAPH 2002) with axis-parallel gradients, different for each channel.

    The lattice has square cells of `cell` pixels, whole or not, and a node on pixel (0, 0). A pixel at offset
    (v, u) in its cell gets the sum over the cell's four corners (a, b), a and b 0 or 1, of
    f(|v - a|) f(|u - b|) (g_y (v - a) + g_x (u - b)), f(t) = 1 - 6 t^5 + 15 t^4 - 10 t^3. Perlin's code finds
    a node's gradient g by a shuffled table of 256 entries; here each node has its own, drawn uniformly.

    Attributes:
        shape: (C, I, J) of the nodes for which `__call__` wants draws.
    """

    def __init__(self, image: Sequence[int], cell: float, device: torch.device) -> None:
        channels, height, width = image
        self.rows = _Axis(height, cell, device)
        self.columns = _Axis(width, cell, device)
        self.shape = (channels, self.rows.nodes, self.columns.nodes)

    def __call__(self, drawn: Tensor) -> Tensor:
        """Noise [n,C,H,W] from gradients `drawn` [n,C,I,J], int64 from {0, ..., 3}."""
        sign = 1.0 - 2 * (drawn % 2)
        level = drawn >= 2
        # A node's weight is a product of one for its row and one for its column. Rows of nodes come first:
        # there are few, and they leave two values for each pixel of the columns.
        of_x = self.columns.spread(torch.where(level, sign, 0.0), self.columns.ramp, dim=-1)
        of_y = self.columns.spread(torch.where(level, 0.0, sign), self.columns.fade, dim=-1)
        noise = self.rows.spread(of_x, self.rows.fade.unsqueeze(-1), dim=-2)
        return noise.add_(self.rows.spread(of_y, self.rows.ramp.unsqueeze(-1), dim=-2))


class _Axis:
    """The two nodes next to each pixel along one axis, the weight f(t) of each, and f(t) t, t its offset."""

    def __init__(self, pixels: int, cell: float, device: torch.device) -> None:
        place = torch.arange(pixels, dtype=torch.float64) / cell
        first = place.floor()
        t = torch.stack([place - first, place - first - 1])
        a = t.abs()
        fade = 1 - a**3 * (a * (a * 6 - 15) + 10)
        self.nodes = int(first[-1]) + 2
        self.node = torch.stack([first, first + 1]).long().to(device)
        self.fade, self.ramp = (weight.float().to(device) for weight in (fade, fade * t))

    def spread(self, values: Tensor, weight: Tensor, dim: int) -> Tensor:
        """From nodes to pixels along axis `dim`: the weighted sum over each pixel's two nodes."""
        before, after = (values.index_select(dim, node) for node in self.node)
        return before.mul_(weight[0]).add_(after.mul_(weight[1]))
