"""What is asked of the parameters of any agent."""

from __future__ import annotations

import json
import pickle
from dataclasses import is_dataclass

from arena.conformance.results import ConformanceError
from arena.players import Attacker, Defender
from arena.players.parameters import parameters


def check_parameters(agent: Attacker | Defender) -> None:
    """Raises ConformanceError unless `agent` is a frozen dataclass that pickle and JSON can take."""
    name = type(agent).__name__
    if not is_dataclass(agent) or not agent.__dataclass_params__.frozen:
        raise ConformanceError(f"{name} must be a dataclass(frozen=True): its fields are its parameters")
    try:
        json.dumps(parameters(agent))
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"its parameters cannot be written to the log as JSON: {error}") from error
    try:
        pickle.loads(pickle.dumps(agent))
    except Exception as error:
        raise ConformanceError(f"it cannot be pickled, which a worker process needs: {error}") from error
