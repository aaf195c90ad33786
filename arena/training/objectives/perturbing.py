"""Objectives that look for the worst image near each image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from arena.training.objectives.objective import Objective

_LEAST = 1e-12


class Perturbing(Objective):
    """An objective at x' with ||x' - x|| <= epsilon and x' in [0,1], found by projected gradient ascent.

    Attributes:
        norm: "linf" or "l2".
        epsilon: the radius, in pixel units of [0,1].
        step: the length of a step, in that norm.
        steps: how many.
    """

    norm: Literal["linf", "l2"] = "linf"
    epsilon: float = Field(gt=0)
    step: float = Field(gt=0)
    steps: int = Field(ge=1, le=10_000)

    def ascend(self, x: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """x' [n,C,H,W], frozen, after all steps from `start`.

        Args:
            loss: images [n,C,H,W] -> [], a sum over the images, which each step raises: linf by the sign of
                the gradient, l2 along it.
        """
        moved = start.detach()
        for _ in range(self.steps):
            at = moved.requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(at), at)
            moved = self.project(at.detach() + self.step * self._direction(slope), x)
        return moved

    def project(self, moved: Tensor, x: Tensor) -> Tensor:
        """The images `moved` put back into the ball around `x`, then into [0,1]."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(moved, x - self.epsilon), x + self.epsilon).clamp(0, 1)
        change = moved - x
        length = _length(change)
        return (x + change * (self.epsilon / length.clamp_min(_LEAST)).clamp(max=1)).clamp(0, 1)

    def anywhere(self, x: Tensor, generator: Generator) -> Tensor:
        """Images uniform in the ball around `x`, clipped to [0,1]."""
        if self.norm == "linf":
            change = (2 * torch.rand(x.shape, generator=generator) - 1) * self.epsilon
        else:
            change = torch.randn(x.shape, generator=generator)
            radius = torch.rand(len(x), 1, 1, 1, generator=generator).pow(1 / x[0].numel()) * self.epsilon
            change = change * (radius / _length(change).clamp_min(_LEAST))
        return (x + change.to(x.device)).clamp(0, 1)

    def _direction(self, slope: Tensor) -> Tensor:
        return slope.sign() if self.norm == "linf" else slope / _length(slope).clamp_min(_LEAST)


def _length(change: Tensor) -> Tensor:
    """[n,1,1,1] l2 norms."""
    length: Tensor = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True)
    return length
