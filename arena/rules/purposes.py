"""Purposes of a decision-based attacker's queries: words on its volleys, for the log and for wrappers."""

START = "start"
"""Whether an image to start from is adversarial."""
SEARCH = "boundary-search"
"""Where on a path the label changes."""
STEP = "step"
"""How far to go in a direction that was chosen."""
GRADIENT = "gradient"
"""On which side of the boundary a probe lies: the terms of an estimate."""
CANDIDATE = "candidate"
"""Whether a random proposal may be the next point."""

ESTIMATION = (GRADIENT, CANDIDATE)
"""The queries that PredCoin calls the gradient estimation step; for a random walk, its tests of proposals."""
