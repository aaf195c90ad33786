"""`arena play` in one process, in two workers and on Ray with two: times, and whether the logs are the same.

python -m bench workers [--games 100] [--device cpu] [--no-ray]

All compute with one thread a process. `playing` is from the beginning of the first shard to the end of the
last one, workers that start included; `whole` is the command. The goal on two idle cores: 1.8 for `playing`.
Exits with 1 if a log differs from that of one process. Takes about 4 minutes there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import create_engine, text

from bench.logs import Book
from bench.tables import table

SCENARIO = """
title = "To be shared"
games = {games}
shard = 10
utility = 200
log = "queries"
attackers = ["random-search", "square"]
defenders = ["none", {{ name = "snd", sigma = 0.05 }}]
threat = {{ epsilon = 0.1, budget = 1000, objective = "submit" }}
"""
WAYS = {
    "one process": [],
    "two workers": ["--workers", "2"],
    "Ray, two": ["--ray", "local", "--workers", "2"],
}


def measure(games: int, ways: Sequence[str], device: str) -> list[dict[str, object]]:
    """A row for each way to play the same scenario; ratios are to the first."""
    rows: list[dict[str, object]] = []
    first: tuple[float, float, dict[str, str]] | None = None
    with tempfile.TemporaryDirectory(prefix="arena-workers-") as folder:
        (Path(folder) / "shared.toml").write_text(SCENARIO.format(games=games))
        for number, way in enumerate(ways):
            log = Path(folder) / f"{number}.db"
            whole, playing = play(Path(folder), log, [*WAYS[way], "--device", device])
            found = Book(str(log)).contents()
            first = first or (playing, whole, found)
            rows.append(
                {
                    "": way,
                    "playing, s": playing,
                    "ratio": first[0] / playing,
                    "whole, s": whole,
                    "ratio of whole": first[1] / whole,
                    "log": "same" if found == first[2] else "DIFFERENT",
                }
            )
    return rows


def play(folder: Path, log: Path, words: Sequence[str]) -> tuple[float, float]:
    """Seconds of the whole command, and from its first shard's beginning to its last one's end."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-c", "from arena.cli.app import main; main()", "play", "shared.toml"]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--log", str(log), *words],
        check=True,
        cwd=folder,
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    whole = time.perf_counter() - began
    with create_engine(f"sqlite:///{log}").connect() as connection:
        first, last = connection.execute(text("SELECT min(started), max(ended) FROM shards")).one()
    return whole, (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args(arguments)
    ways = list(WAYS)
    if not given.ray or importlib.util.find_spec("ray") is None:
        print("Ray is left out" if not given.ray else "Ray is left out: it is not installed", flush=True)
        ways.remove("Ray, two")
    rows = measure(given.games, ways, given.device)
    print(f"{os.cpu_count()} cores\n{table(rows)}", flush=True)
    sys.exit(any(row["log"] == "DIFFERENT" for row in rows))


if __name__ == "__main__":
    main()
