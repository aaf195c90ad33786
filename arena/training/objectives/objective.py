"""What a training minimises, and what it is given for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from arena.training.errors import TrainingError


@dataclass(frozen=True)
class Circumstances:
    """What an objective may use besides the network and a batch.

    Attributes:
        generator: on the host, of the session: draws from it, and from torch's global state, go on after an
            interruption as if there had been none.
        epoch: how many epochs are over.
        teacher: a frozen network in eval mode, images [n,C,H,W] -> logits [n,K]; None: the job has none.
    """

    generator: torch.Generator
    epoch: int = 0
    teacher: nn.Module | None = None


class Objective(BaseModel):
    """A loss, and the images at which it is taken; its fields are its parameters.

    A subclass says `kind: Literal["its-name"] = "its-name"`, and joins the union in `objectives`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    taught: ClassVar[bool] = False
    """Whether it needs a teacher."""

    @property
    def passes(self) -> int:
        """How often each image of a batch goes through the network, or a teacher, in a step."""
        return 1

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        """The loss [], of which a step takes the gradient, and logits [n,K] by which accuracy is told.

        Args:
            model: images [n,C,H,W] in [0,1] -> logits [n,K], its normalisation inside; in training mode.
            x: [n,C,H,W], augmented.
            labels: [n] int64.
        """
        raise NotImplementedError

    def check(self, teacher: object | None) -> None:
        """Raises TrainingError if a job with or without that teacher cannot have this objective."""
        if self.taught and teacher is None:
            raise TrainingError(
                f'objective "{getattr(self, "kind", "")}" needs a teacher, a network whose answers are '
                f"learned: the defender of this name has one, and arena train has none"
            )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` is in eval mode within; afterwards each of its parts is in the mode that it was in."""
    before = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
