"""Members of an ensemble that are smooth, and whose gradients are at right angles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from arena.training.errors import TrainingError
from arena.training.objectives.objective import Circumstances, Objective

STEPS = 6
"""Steps, of a third of epsilon each, towards the images where gradients are largest."""


class TRSTraining(Objective):
    """Transferability Reduced Smooth ensembles (Yang et al., "TRS: Transferability Reduced Ensemble via
    Promoting Gradient Diversity and Model Smoothness", NeurIPS 2021), for a network with `members`.

    The loss is sum_i CE_i + scale (similarity S + smoothness M) with g_i the gradient of the batch's mean
    CE_i by the images: S is the mean over pairs of members, and over images, of |cos(g_i, g_j)|, and M the
    mean over members and images of 2 ||g_i||^2. As in the authors' code, g_i of a batch of B holds a factor
    1/B.

    Attributes:
        similarity, smoothness, scale: the weights.
        epsilon, last_epsilon, epochs: where epsilon is not 0, M is taken at images half of which are moved
            (linf) to where gradients are large, by epsilon at first, rising to last_epsilon over so many
            epochs.
    """

    kind: Literal["trs"] = "trs"
    similarity: float = Field(default=2.0, ge=0)
    smoothness: float = Field(default=2.0, ge=0)
    scale: float = Field(default=5.0, ge=0)
    epsilon: float = Field(default=0.0, ge=0)
    last_epsilon: float = Field(default=0.0, ge=0)
    epochs: int = Field(default=1, ge=1)

    @property
    def passes(self) -> int:
        return 2 + STEPS // 2 if self.epsilon else 1

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        members = members_of(model)
        answers, losses, slopes = _studied(members, x, labels)
        pairs = itertools.combinations(slopes, 2)
        alike = torch.stack([F.cosine_similarity(a, b).abs().mean() for a, b in pairs]).mean()
        if self.epsilon:
            radius = self.epsilon + (self.last_epsilon - self.epsilon) * around.epoch / self.epochs
            half = len(x) // 2
            moved = _steepest(members, x[half:], labels[half:], radius, around.generator)
            _, _, slopes = _studied(members, torch.cat([x[:half], moved]), labels)
        loss = losses.sum() + self.scale * (self.similarity * alike + self.smoothness * magnitude(slopes))
        return loss, answers.log_softmax(dim=2).logsumexp(dim=0)


def members_of(model: nn.Module) -> Sequence[nn.Module]:
    """The members of a network that answers for several.

    Raises:
        TrainingError: if it has none, or only one.
    """
    members = getattr(model, "members", None)
    if not isinstance(members, nn.ModuleList) or len(members) < 2:
        raise TrainingError(
            'objective "trs" trains members of a network against each other; this one has none (the defender '
            "trs makes such a network)"
        )
    return list(members)


def magnitude(slopes: Sequence[Tensor]) -> Tensor:
    """The mean over members, and over images, of 2 ||g||^2, of gradients [n,D] each."""
    return 2 * torch.stack([g.square().sum(dim=1).mean() for g in slopes]).mean()


def _studied(members: Sequence[nn.Module], x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Logits [m,n,K] of the members, their losses [m], and the gradients [n,D] of these by the images, which
    can be differentiated again."""
    x = x.detach().requires_grad_(True)
    answers = torch.stack([member(x) for member in members])
    losses = torch.stack([F.cross_entropy(logits, labels) for logits in answers])
    slopes = [torch.autograd.grad(loss, x, create_graph=True)[0].flatten(1) for loss in losses]
    return answers, losses, slopes


def _steepest(
    members: Sequence[nn.Module], x: Tensor, labels: Tensor, radius: float, generator: torch.Generator
) -> Tensor:
    """Images within `radius` (linf) of `x` [n,C,H,W] where the members' gradients are large, frozen."""
    change = (2 * torch.rand(x.shape, generator=generator) - 1).to(x.device) * radius
    moved = (x + change).clamp(0, 1)
    for _ in range(STEPS):
        at = moved.detach().requires_grad_(True)
        losses = [F.cross_entropy(member(at), labels) for member in members]
        slopes = [torch.autograd.grad(loss, at, create_graph=True)[0].flatten(1) for loss in losses]
        (rise,) = torch.autograd.grad(magnitude(slopes), at)
        moved = at.detach() + radius / 3 * rise.sign()
        moved = torch.minimum(torch.maximum(moved, x - radius), x + radius).clamp(0, 1)
    return moved.detach()
