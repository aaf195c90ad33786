"""What a training minimises: one file per objective, chosen in a recipe by its `kind`."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from arena.training.objectives.cross_entropy import CrossEntropy
from arena.training.objectives.distillation import Distillation
from arena.training.objectives.gaussian_noise import GaussianNoise
from arena.training.objectives.mixed_pgd import MixedPGDTraining
from arena.training.objectives.objective import Circumstances, Objective, evaluating
from arena.training.objectives.perturbing import Perturbing
from arena.training.objectives.pgd import PGDTraining
from arena.training.objectives.trades import TradesTraining
from arena.training.objectives.trs import TRSTraining

__all__ = [
    "KINDS",
    "AnyObjective",
    "Circumstances",
    "CrossEntropy",
    "Distillation",
    "GaussianNoise",
    "MixedPGDTraining",
    "Objective",
    "PGDTraining",
    "Perturbing",
    "TRSTraining",
    "TradesTraining",
    "evaluating",
]

AnyObjective = Annotated[
    CrossEntropy
    | PGDTraining
    | TradesTraining
    | GaussianNoise
    | Distillation
    | MixedPGDTraining
    | TRSTraining,
    Field(discriminator="kind"),
]
KINDS: tuple[type[Objective], ...] = get_args(get_args(AnyObjective)[0])
