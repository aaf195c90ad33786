"""The sum over all outputs of a classifier's first convolution, as a linear function of the image."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from arena.classifiers import Classifier

TOLERANCE = 1e-9
"""The largest difference of the sum from a linear function in float64, relative to its largest value."""


class _Reached(Exception):
    """Ends a forward pass when it reaches the first convolution."""


def first_convolution_sum(classifier: Classifier) -> tuple[Tensor, float]:
    """A [C,H,W] and c, float64 on the CPU, with S(x) = <A, x> + c for images x in [0,1].

    S is the sum of all outputs of the first convolution, which a normalisation may precede. Its gradient A is
    the convolution's transpose applied to ones, with the normalisation folded in; one backward pass in
    float64 through the layers up to there computes it.

    Raises:
        ValueError: if the classifier has no convolution, what precedes the first is not affine or cannot be
            computed in float64, or the weights are not finite.
    """
    name = classifier.name
    try:
        module = copy.deepcopy(classifier.module).cpu()
    except Exception as error:  # whatever a user's module holds
        raise ValueError(f"conv-parity needs a copy of {name!r}; none can be made: {error}") from error
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        raise ValueError(
            f"conv-parity needs the outputs of a first convolution; classifier {name!r} has no "
            f"torch.nn.Conv2d that can be reached"
        )
    module.double().requires_grad_(False)
    found: list[Tensor] = []

    def stop(layer: nn.Module, inputs: object, output: Tensor) -> None:
        found.append(output)
        raise _Reached

    for layer in convolutions:
        layer.register_forward_hook(stop)

    def total(x: Tensor) -> Tensor:
        found.clear()
        try:
            module(x[None].clone())
        except _Reached:
            return found[0].sum()
        except Exception as error:  # a network that casts to float32, say, or leaves torch
            raise ValueError(
                f"conv-parity computes what precedes the first convolution in float64; there {name!r} fails: "
                f"{error}"
            ) from error
        raise ValueError(f"conv-parity needs a first convolution; a pass through {name!r} meets none")

    with torch.enable_grad():
        x = torch.zeros(classifier.shape, dtype=torch.float64, requires_grad=True)
        constant = total(x)
        if not constant.requires_grad:
            raise ValueError(f"conv-parity: no gradient leads through {name!r} to its first convolution")
        weight, c = torch.autograd.grad(constant, x)[0], float(constant.detach())
        if not (weight.isfinite().all() and math.isfinite(c)):
            raise ValueError(f"conv-parity: the sum of the first convolution of {name!r} is not finite")
    with torch.no_grad():
        point = torch.rand(classifier.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        largest = float(weight.abs().sum()) + abs(c)
        if not abs(float(total(point) - (weight * point).sum()) - c) <= TOLERANCE * max(largest, 1e-300):
            raise ValueError(f"conv-parity: what precedes the first convolution of {name!r} is not affine")
    return weight.detach(), c
