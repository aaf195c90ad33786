"""The error of a scenario."""


class ScenarioError(ValueError):
    """A scenario that cannot be played: file, key, what was found, and what is allowed."""
