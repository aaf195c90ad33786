"""A stateful attacker-vs-defender game simulator for query-based black-box attacks on image classifiers."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from arena.api import evaluate, play, play_all
    from arena.evaluation.clean_utility import Utility
    from arena.notebook.result import Result
    from arena.notebook.results import Results
    from arena.players import Attacker, Defender, Games, Needs, Play
    from arena.rules.threat import Threat

__all__ = [
    "Attacker",
    "Defender",
    "Games",
    "Needs",
    "Play",
    "Result",
    "Results",
    "Threat",
    "Utility",
    "evaluate",
    "play",
    "play_all",
]

_HOMES = {
    "evaluate": "arena.api",
    "play": "arena.api",
    "play_all": "arena.api",
    "Attacker": "arena.players",
    "Defender": "arena.players",
    "Games": "arena.players",
    "Needs": "arena.players",
    "Play": "arena.players",
    "Result": "arena.notebook.result",
    "Results": "arena.notebook.results",
    "Threat": "arena.rules.threat",
    "Utility": "arena.evaluation.clean_utility",
}


# Threads that wait for each other in long loops keep shared cores busy while other threads need them: passes
# took up to ten times as long. GNU's OpenMP itself waits so briefly only if it has more threads than cores.
# It reads this setting when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "100")


def __getattr__(name: str) -> Any:
    # Imported at first use, so that the command line answers `--help` without loading torch.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


gymnasium.register(
    "arena/BlackBox-v0",
    entry_point="arena.envs:BlackBoxEnv",
    vector_entry_point="arena.envs:BlackBoxVectorEnv",
)
