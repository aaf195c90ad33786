"""Perturbations as actions: the cube [-1,1]^(CHW) laid over the ball that the threat allows."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.envs.spaces import farthest
from arena.rules.geometry import project
from arena.rules.threat import Threat

_TINY = 1e-30


def perturbed(x0: Tensor, action: Tensor, threat: Threat) -> Tensor:
    """The images that `action` makes of clean images `x0`, both [n,C,H,W] float32.

    With a the action, whose entries beyond [-1,1] count as the nearest of -1 and 1, and r = min(epsilon, the
    largest distance that two images can have: 1 in linf, sqrt(C H W) in l2; for an infinite epsilon, too),

        x = clip(x0 + r max|a| a / ||a||),    ||.|| the threat's norm; a = 0 gives x0.

    In linf this is x0 + r a. In l2 it is a step in the direction of a, r times its largest entry long. In
    either norm each point of the ball has one action, and an entry of -1 or 1 puts it on the surface. `clip`
    is into [0,1], and into the ball after the service's quantisation (`arena.rules.geometry.project`).
    NaN and infinite entries give NaN.
    """
    a = action.clamp(-1, 1) + (action - action)  # infinite entries become NaN, as malformed as these
    radius = min(threat.epsilon, farthest(threat.norm, x0.shape[1:]))
    if threat.norm == "linf":
        return project(x0 + radius * a, x0, "linf", threat.epsilon, threat.quantisation)
    each = (-1, *[1] * (x0.dim() - 1))
    peak = a.abs().flatten(1).amax(dim=1).view(each)
    direction = a / peak.clamp_min(_TINY)
    length = torch.linalg.vector_norm(direction.flatten(1), dim=1).view(each)
    step = direction * (radius * peak / length.clamp_min(1))
    return project(x0 + step, x0, "l2", threat.epsilon, threat.quantisation)
