"""Layers that draw for each row: what makes a network random, one answer at a time.

A defender that hardens a classifier into such a network declares itself random. In play the draws of a row
are keyed to it (docs/design.md, D4), whatever else is in the batch; in training they come from torch's global
state; in a pass that nobody keys, as for the verdict `base`, and for gradients, the layers are silent and the
network is its own mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import Tensor, nn

from arena import draws


class Keys(Protocol):
    """The rows [n] of a pass, to which draws are keyed: `arena.players.Rows` is of this form."""

    @property
    def seed(self) -> int: ...
    @property
    def key(self) -> Tensor: ...
    @property
    def turn(self) -> Tensor: ...
    @property
    def draw(self) -> Tensor | int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Tensor | slice, /) -> Keys: ...


_keys: ContextVar[Keys | None] = ContextVar("keys", default=None)


@contextmanager
def keyed(keys: Keys | None) -> Iterator[None]:
    """The passes within, of as many rows as `keys` has, draw for these."""
    token = _keys.set(keys)
    try:
        yield
    finally:
        _keys.reset(token)


@contextmanager
def keyed_to(rows: Tensor) -> Iterator[None]:
    """The passes within are of these rows [m] alone, by their places among those of the pass around."""
    keys = _keys.get()
    with keyed(None if keys is None else keys[rows]):
        yield


class KeyedLayer(nn.Module):
    """A layer that draws.

    Args:
        number: its place among the drawing layers of its network; another place gives other draws.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def normal(self, x: Tensor, shape: Sequence[int]) -> Tensor | None:
        """Standard normals [n,*shape] for a pass of `x` [n,...]; None where the layer is to be silent."""
        if self.training:
            return torch.randn(len(x), *shape, device=x.device)
        if (keys := self._keys_of(x)) is None:
            return None
        return draws.normal(self._seed(keys), keys.key, keys.turn, shape, stream=keys.draw)

    def uniform(self, x: Tensor, shape: Sequence[int]) -> Tensor | None:
        """Uniform on [0,1), as `normal`."""
        if self.training:
            return torch.rand(len(x), *shape, device=x.device)
        if (keys := self._keys_of(x)) is None:
            return None
        return draws.uniform(self._seed(keys), keys.key, keys.turn, shape, stream=keys.draw)

    def _keys_of(self, x: Tensor) -> Keys | None:
        keys = _keys.get()
        if keys is not None and len(keys) != len(x):
            raise ValueError(f"a pass of {len(x)} rows with the keys of {len(keys)}")
        return keys

    def _seed(self, keys: Keys) -> int:
        return draws.derive(keys.seed, "layer", self.number)


def draws_for_rows(module: nn.Module) -> bool:
    """Whether a network has layers that draw."""
    return any(isinstance(layer, KeyedLayer) for layer in module.modules())
