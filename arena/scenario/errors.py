"""The error of a scenario."""

from arena.messages import UserError


class ScenarioError(UserError, ValueError):
    """A scenario that cannot be played: file, key, what was found, and what is allowed."""
