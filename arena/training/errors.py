"""The errors of a training."""

from __future__ import annotations

from arena.messages import UserError


class TrainingError(UserError, ValueError):
    """A training that cannot start or continue: one sentence on what was wrong and what is allowed."""


class Unusable(TrainingError):
    """A checkpoint from which this training cannot continue."""


class Stopped(Exception):
    """A training stopped between two steps, because it was asked to."""
