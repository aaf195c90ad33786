"""What can go wrong in a training."""

from __future__ import annotations


class TrainingError(ValueError):
    """A training that cannot begin or go on: one sentence on what was wrong and what is allowed."""


class Stopped(Exception):
    """A training that was asked to stop did so, between two steps."""
