"""What a dry run says, as JSON."""

from __future__ import annotations

from typing import Any

from arena.cli.console import say_json
from arena.cli.play import machine_of
from arena.running.call_plan import benign_images
from arena.running.room import BYTES_PER_ROW
from arena.running.runner import Run
from arena.scenario.jobs import shard_count
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match


def say_plan(run: Run, log: str) -> None:
    """Print the size of a run: its matches, each with all that decides how it is played, queries and rows."""
    scenario, machine = run.scenario, machine_of(run, log)
    say_json(
        {
            "scenario": scenario.name,
            "title": scenario.title,
            "size": scenario.size or None,
            "sizes": list(scenario.sizes),
            "log": log,
            "device": str(run.device),
            "level": run.level,
            "queries": run.expected_queries,
            "log_bytes": run.rows * BYTES_PER_ROW,
            "free_disk": machine.disk,
            "memory": machine.memory,
            "matches": list(map(_match, scenario.matches, run.worlds)),
            "left_out": [
                {"place": out.place.removesuffix(": ") or None, "name": out.name, "why": out.why}
                for out in scenario.left_out
            ],
        }
    )


def _match(match: Match, world: LoadedWorld) -> dict[str, Any]:
    s = match.settings
    return {
        "number": match.number,
        "name": match.name,
        "block": match.block,
        **match.describe(),
        "drawn": len(world),
        "shards": shard_count(match, world),
        "queries": s.games * s.repeats * match.threat.budget,
        "benign": benign_images(match, world),
    }
