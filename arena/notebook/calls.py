"""A call for a log: what was played, when, where and with which versions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from arena.classifiers.devices import device_in_words
from arena.notebook.fixtures import Fixture
from arena.notebook.ground import Ground
from arena.provenance import versions
from arena.records.runs import MatchInfo, RunInfo
from arena.running.runner import level_for
from arena.scenario.identity import fingerprint

SCENARIO = "arena.play"
"""What stands in a log for the name of a scenario."""


def new_call() -> str:
    """The fingerprint of a call. Each is a run of its own: what plays in it may be written nowhere but in a
    notebook, so that nobody could tell whether two of them are the same."""
    return fingerprint([SCENARIO, uuid.uuid4().hex])


def run_info(call: str, title: str, found: Sequence[Fixture], on: Ground) -> RunInfo:
    """A call for the log."""
    queries = sum(len(on.x) * fixture.info.threat.budget for fixture in found)
    return RunInfo(
        scenario=SCENARIO,
        title=title,
        seed=on.seed,
        versions=versions(),
        device=device_in_words(on.base.device),
        fingerprint=call,
        level="queries" if on.margin_base else level_for(queries),
        batch=on.base.batch,
        resolved={"fresh": True, "matches": [_described(fixture.info, on) for fixture in found]},
    )


def _described(info: MatchInfo, on: Ground) -> dict[str, Any]:
    """What decides how a match is played, as a scenario's log says it."""
    return {
        "threat": info.threat.model_dump(mode="json"),
        "attacker": {"name": info.attacker, **info.attacker_params},
        "defenders": info.defender_params["defenders"],
        "games": len(on.x),
        "drawn": len(on.x),
        "shard": on.shard,
        "repeats": 1,
        "seed": on.seed,
        "at": list(info.at),
        "votes": on.votes,
        **({"margin_base": True} if on.margin_base else {}),
        "dataset_sha": info.dataset_sha,
        "classifier_sha": info.classifier_sha,
    }
