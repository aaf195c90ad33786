"""Changing the network of a classifier: layers found, put before others or in their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from arena.classifiers import Classifier
from arena.classifiers.keyed import KeyedLayer


def around(classifier: Classifier, module: nn.Module) -> Classifier:
    """A classifier of the same images and classes, and with the same settings, whose network is `module`."""
    made = Classifier(
        module,
        shape=classifier.shape,
        classes=classifier.classes,
        device=classifier.device,
        batch=classifier.batch,
        name=classifier.name,
        precision=classifier.precision,
        compile=classifier.compile,
    )
    made.reading = classifier.reading
    return made


def changed(module: nn.Module, change: Mapping[str, Callable[[Any], nn.Module]]) -> nn.Module:
    """A copy of `module` with what `change` makes of its layers, by their names, in their places.

    "" is the module itself, which is changed last.
    """
    made = copy.deepcopy(module)
    # What lies deeper first, so that names still lead there.
    for name in sorted(change, key=lambda name: name.count(".") if name else -1, reverse=True):
        if not name:
            made = change[name](made)
            continue
        parent, _, child = name.rpartition(".")
        within = made.get_submodule(parent)
        setattr(within, child, change[name](within.get_submodule(child)))
    return made


def first_free_number(module: nn.Module) -> int:
    """The number of the next drawing layer of a network, so that it draws apart from those that are there."""
    return 1 + max((layer.number for layer in module.modules() if isinstance(layer, KeyedLayer)), default=-1)


def executed(classifier: Classifier, kind: type[nn.Module]) -> list[str]:
    """The names of the layers of a kind in the order in which a pass first meets them; those that it does not
    meet are left out."""
    module, met = copy.deepcopy(classifier.module), dict[str, None]()
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, kind)}
    if not layers:
        return []

    def note(name: str) -> Callable[[nn.Module, object], None]:
        return lambda layer, inputs: met.setdefault(name)

    for name, layer in layers.items():
        layer.register_forward_pre_hook(note(name))
    with torch.no_grad():
        module(torch.full((1, *classifier.shape), 0.5, device=classifier.device))
    return list(met)
