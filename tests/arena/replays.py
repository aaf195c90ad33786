"""Small runs in logs, and what is done to these."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

from arena.log import open_log
from arena.running.runner import Run
from arena.scenario.files import parse_scenario
from arena.scenario.seeds import PUBLIC, Seeds

TABLE: dict[str, Any] = {
    "games": 6,
    "shard": 4,
    "utility": 0,
    "at": [5],
    "attackers": [{"name": "square", "p": 0.3}],
    "defenders": ["none", {"name": "snd", "sigma": 0.1}],
    "threat": {"epsilon": 0.2, "budget": 20, "objective": "submit"},
}


class Silent:
    """A listener that has no use for what it hears."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def play(to: Path, seeds: Seeds = PUBLIC, **changes: Any) -> Path:
    """A log of a small run."""
    scenario = parse_scenario({**TABLE, **changes}, "small", to.parent, "small").with_seeds(seeds)
    with open_log(to) as log:
        Run(scenario, device="cpu", data_dirs=[to.parent]).play(log, Silent())
    return to


def tampered(log: Path, statement: str) -> Path:
    """A copy of a log, changed."""
    copy = log.with_name(f"tampered-{abs(hash(statement))}.db")
    shutil.copy(log, copy)
    with sqlite3.connect(copy) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    return copy
