"""How a network is trained, as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from arena.messages import fault
from arena.training.errors import TrainingError
from arena.training.objectives import KINDS, AnyObjective, CrossEntropy

Augmentation = Literal["none", "shift", "crop", "crop-flip", "resized-crop-flip", "affine"]
Share = Annotated[float, Field(gt=0, lt=1)]


class Recipe(BaseModel):
    """An objective over the train split, trained by these rules.

    Attributes:
        objective: what is minimised (`arena.training.objectives`); cross-entropy with the labels if none is
            given.
        optimiser: "sgd", "adam" or "adamw" (Adam's betas 0.9 and 0.999).
        rate: learning rate, the highest of the schedule.
        momentum, nesterov: of SGD.
        weight_decay: on every parameter; AdamW's is decoupled, the others' an l2 penalty.
        batch: images a step. A last batch of a single image is left out: BatchNorm has no variance for it.
        epochs, iterations: the length of the run, one of the two.
        schedule: "constant"; "step": multiplied by `factor` at each of the `milestones`; "cosine": down to 0
            (Loshchilov and Hutter 2017, eq. 5, without restarts); "one-cycle": from rate/25 up to `rate` at
            0.3 of the run and down to rate/250,000 (Smith and Topin 2018; torch's OneCycleLR, which moves
            the momentum, or Adam's first beta, the other way between 0.95 and 0.85).
        milestones: shares of the run, so that the schedule keeps its form at another length.
        warmup: the share of the run over which the rate first rises linearly.
        augment: "none"; "shift": by up to 2 pixels each way, with zeros in the gaps; "crop": by up to 4;
            "crop-flip": that, and mirrored half of the time; "resized-crop-flip": a part of 8 % to all of the
            area, resized, and mirrored half of the time; "affine": rotated, sheared, scaled and shifted.
        ema: decay per step of an exponential moving average of the weights, which then is the result.
        precision: "float32", or autocast to "bf16" or "fp16" (with loss scaling), on CUDA alone.
        normalise: by the "network" entry's mean and std, or by those of each channel of the "train" split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    objective: AnyObjective = CrossEntropy()
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    rate: float = Field(gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    batch: int = Field(default=128, ge=1, le=2**20)
    epochs: int | None = Field(default=None, ge=1, le=10**6)
    iterations: int | None = Field(default=None, ge=1, le=10**9)
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "constant"
    milestones: tuple[Share, ...] = ()
    factor: Share = 0.1
    warmup: float = Field(default=0.0, ge=0, lt=1)
    augment: Augmentation = "none"
    ema: Share | None = None
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    normalise: Literal["network", "train"] = "network"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("epochs or iterations must be given, and not both")
        if self.optimiser != "sgd" and (self.momentum or self.nesterov):
            raise ValueError(f"momentum and nesterov belong to sgd, not to {self.optimiser}; momentum=0")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if bool(self.milestones) != (self.schedule == "step"):
            raise ValueError('milestones belong to the schedule "step", which needs some')
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must ascend")
        if self.warmup and self.schedule == "one-cycle":
            raise ValueError("one-cycle has a warm-up of its own; warmup=0")
        return self

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An objective is written whole, with its kind, and the usual one not at all: recipes were written
        before there were others, and stay the same."""
        found: dict[str, Any] = handler(self)
        found.pop("objective", None)
        if self.objective != CrossEntropy():
            found = {"objective": self.objective.model_dump(mode="json"), **found}
        return found

    def steps(self, images: int) -> tuple[int, int]:
        """How many steps an epoch over so many images has, and the whole run."""
        epoch = max(1, images // self.batch + (images % self.batch > 1 or images == 1))
        return epoch, self.iterations if self.iterations is not None else (self.epochs or 0) * epoch

    def images(self, images: int) -> int:
        """How many images go through the network in all, in a run over so many; without calibration's."""
        epoch, steps = self.steps(images)
        whole, rest = divmod(steps, epoch)
        taken = min(epoch * self.batch, images)
        return (whole * taken + min(rest * self.batch, images)) * self.objective.passes

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """This recipe with other values for some keys, given as JSON values (lists for tuples).

        A new length takes the place of the old one; parameters of the objective without a `kind` are changes
        to the objective that there is. Raises TrainingError that names key and allowed values.
        """
        old, changes = self.model_dump(mode="json"), dict(changes)
        if isinstance(own := changes.get("objective"), Mapping) and "kind" not in own:
            changes["objective"] = self.objective.model_dump(mode="json") | dict(own)
        if "epochs" in changes or "iterations" in changes:
            old |= {"epochs": None, "iterations": None}
        try:
            return Recipe.model_validate_json(json.dumps(old | changes))
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:
                raise TrainingError(f"recipe: {first['msg'].removeprefix('Value error, ')}") from error
            where = f"{_place(first['loc'])}: {fault(dict(first), _allowed(first['loc']))}"
            raise TrainingError(f"recipe: {where}") from error


def _place(loc: tuple[int | str, ...]) -> str:
    """Where an error is; of an objective the kind stands between its name and the parameter's."""
    return ".".join(map(str, (loc[0], *loc[2:]))) if loc[0] == "objective" else str(loc[0])


def _allowed(loc: tuple[int | str, ...]) -> Iterable[str]:
    if loc[0] != "objective" or len(loc) < 3:
        return Recipe.model_fields
    return next((k.model_fields for k in KINDS if k.model_fields["kind"].default == loc[1]), ())
