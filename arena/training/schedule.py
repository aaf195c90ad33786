"""The learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Iterable

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


def optimiser(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimiser of these parameters."""
    rate, decay = recipe.rate, recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, rate, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov
        )
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(parameters, rate, weight_decay=decay)
