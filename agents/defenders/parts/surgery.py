"""Changing the network of a classifier: layers found, put before others or in their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from arena.classifiers.keyed import KeyedLayer


def changed(module: nn.Module, change: Mapping[str, Callable[[Any], nn.Module]]) -> nn.Module:
    """`module` with what `change` makes of its layers, by their names, in their places; it is changed
    itself."""
    # What lies deeper first, so that names still lead there.
    for name in sorted(change, key=lambda name: name.count("."), reverse=True):
        parent, _, child = name.rpartition(".")
        within = module.get_submodule(parent)
        setattr(within, child, change[name](within.get_submodule(child)))
    return module


def first_free_number(module: nn.Module) -> int:
    """The number of the next drawing layer of a network, so that it draws apart from those that are there."""
    return 1 + max((layer.number for layer in module.modules() if isinstance(layer, KeyedLayer)), default=-1)


def executed(
    module: nn.Module, shape: tuple[int, int, int], kind: type[nn.Module] | tuple[type[nn.Module], ...]
) -> list[str]:
    """The names of the layers of a kind in the order in which a pass of an image of `shape` [C,H,W] first
    meets them; those that it does not meet are left out."""
    module, met = copy.deepcopy(module).eval(), dict[str, None]()
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, kind)}
    if not layers:
        return []

    def note(name: str) -> Callable[[nn.Module, object], None]:
        return lambda layer, inputs: met.setdefault(name)

    for name, layer in layers.items():
        layer.register_forward_pre_hook(note(name))
    device = next(iter(module.parameters())).device
    with torch.no_grad():
        module(torch.full((1, *shape), 0.5, device=device))
    return list(met)
