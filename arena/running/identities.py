"""What makes a match of a run what it is, in the process that asks."""

from __future__ import annotations

from typing import Any

from arena.game.referee import longest_volley
from arena.records.pieces import LogLevel
from arena.scenario.identity import match_identity
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match


def identity_of(match: Match, world: LoadedWorld, prepared_sha: str, level: LogLevel) -> dict[str, Any]:
    """The identity of a match as it would be played by this process in this world.

    Args:
        prepared_sha: of the prepared defenders.
    """
    classifier = world.classifier
    return match_identity(
        match,
        dataset_sha=world.dataset.sha,
        classifier_sha=classifier.sha,
        surrogate_shas=world.surrogate_shas,
        prepared_sha=prepared_sha,
        device=classifier.device,
        batch=classifier.batch,
        max_rows=longest_volley(world.dataset.shape),
        forward=classifier.forward.steps,
        threads=classifier.threads,
        level=level,
    )
