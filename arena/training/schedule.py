"""The learning rate at each step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from arena.training.recipe import Recipe


def rate_factor(recipe: Recipe, step: int, steps: int) -> float:
    """The factor on the learning rate at this step (from 0) of `steps`, for every schedule but one-cycle."""
    rising = round(recipe.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2
    passed = sum(step >= round(milestone * steps) for milestone in recipe.milestones)
    return recipe.factor**passed


def scheduler(recipe: Recipe, optimiser: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """The recipe's schedule over `steps` steps; step it once after each step of the optimiser."""
    if recipe.schedule == "one-cycle":
        return OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    return LambdaLR(optimiser, lambda step: rate_factor(recipe, step, steps))


def optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser of a network's parameters.

    A layer's parameters that its attribute `undecayed` names decay not at all.
    """
    rate, decay, parameters = recipe.rate, recipe.weight_decay, _groups(network)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, rate, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov
        )
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(parameters, rate, weight_decay=decay)


def _groups(network: nn.Module) -> list[dict[str, Any]]:
    """A network's parameters: those that decay by the recipe, and after them those that do not, if any."""
    free = {
        id(getattr(layer, name)) for layer in network.modules() for name in getattr(layer, "undecayed", ())
    }
    both = [[p for p in network.parameters() if (id(p) in free) == exempt] for exempt in (False, True)]
    groups: list[dict[str, Any]] = [{"params": both[0]}, {"params": both[1], "weight_decay": 0.0}]
    return groups[:1] if not both[1] else groups
