"""What an agent sees and does: the observation and action spaces of the environments, all finite."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from gymnasium import spaces

from arena.rules.threat import Norm, Threat

ActionKind = Literal["perturbation", "image"]
Reward = Literal["objective", "margin"]

LOGIT_LIMIT = 1e6
"""Logits are clipped to [-LOGIT_LIMIT, LOGIT_LIMIT] in observations, so that their space is finite."""


def farthest(norm: Norm, shape: tuple[int, ...]) -> float:
    """The largest distance that two images [C,H,W] in [0,1] can have."""
    return 1.0 if norm == "linf" else math.sqrt(math.prod(shape))


def observation_space(
    threat: Threat, shape: tuple[int, int, int], classes: int, reward: Reward = "objective"
) -> spaces.Dict:
    """The observation of one game with images `shape` = (C, H, W) and K classes.

    A part that is absent is zero and its flag is 0.

        image          [C,H,W] float32    the clean image x0, quantised as the threat says
        label          0..K-1             its label y
        target         0..K-1             the target's label
        has_target     0, 1               whether there is one
        answered       0, 1               the last query was answered
        refused        0, 1               the last query was refused; neither before the first one
        answer_label   0..K-1             the label answered to the last query
        has_label      0, 1               absent: nothing was answered, or the defender declined
        answer_scores  [K] float32        the scores answered: logits (clipped to 1e6) or probabilities
        has_scores     0, 1               absent: nothing was answered, the feedback is `label`, or NaN
        left           [1] float32        queries left
        best_distance  [1] float32        of the game's best hit, in the threat's norm; without a hit the
                                          largest distance possible, 1 (linf) or sqrt(C H W) (l2)
        has_best       0, 1               whether there was a hit
        banned         [A] int8           the accounts that were closed; only with several accounts
        best_margin    [1] float32        the lowest margin shown so far, 1 before the first; only with
                                          reward `margin` (`arena.envs.margins.shown_margin`)
    """
    label, flag = spaces.Discrete(classes), spaces.Discrete(2)
    limit = LOGIT_LIMIT if threat.feedback == "logits" else 0.0
    parts: dict[str, spaces.Space[object]] = {
        "image": _box(0, 1, shape),
        "label": label,
        "target": label,
        "has_target": flag,
        "answered": flag,
        "refused": flag,
        "answer_label": label,
        "has_label": flag,
        "answer_scores": _box(-limit, max(limit, 1), (classes,)),
        "has_scores": flag,
        "left": _box(0, threat.budget, (1,)),
        "best_distance": _box(0, farthest(threat.norm, shape), (1,)),
        "has_best": flag,
    }
    if threat.accounts > 1:
        parts["banned"] = spaces.MultiBinary(threat.accounts)
    if reward == "margin":
        parts["best_margin"] = _box(-1, 1, (1,))
    return spaces.Dict(parts)


def action_parts(threat: Threat) -> dict[str, spaces.Space[object]]:
    """What an action may hold besides the image.

    submit   0, 1     hand the image in as the final one instead of asking; only under objective `submit`
    account  0..A-1   who asks; only with several accounts
    """
    parts: dict[str, spaces.Space[object]] = {}
    if threat.objective == "submit":
        parts["submit"] = spaces.Discrete(2)
    if threat.accounts > 1:
        parts["account"] = spaces.Discrete(threat.accounts)
    return parts


def action_space(
    threat: Threat, shape: tuple[int, int, int], kind: ActionKind = "perturbation"
) -> spaces.Box | spaces.Dict:
    """The action in one game: [C,H,W] float32, in a table with `action_parts` where there are any.

    `perturbation`: a box from -1 to 1, laid over the ball (`arena.envs.perturbations.perturbed`).
    `image`: a box from 0 to 1, the image itself.
    """
    box, parts = _box(-1 if kind == "perturbation" else 0, 1, shape), action_parts(threat)
    return spaces.Dict({kind: box, **parts}) if parts else box


def _box(low: float, high: float, shape: tuple[int, ...]) -> spaces.Box:
    return spaces.Box(low, high, shape, np.float32)
