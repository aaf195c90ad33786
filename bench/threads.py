"""What a scenario takes beside one busy process, over the same with OMP_NUM_THREADS=1.

python -m bench threads [--games G] [--repeats R]

Wall time of `arena play quickstart` as a process of its own, while another process keeps one core busy. A
forward pass that shared its work among all cores would wait for the busy one; on one core only the busy
process is felt, in both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.tables import table


def measure(games: int, repeats: int) -> dict[str, object]:
    """The medians in seconds; the ratio is the median of ratios of neighbours."""
    taken: list[tuple[float, float]] = []
    with busy_process():
        for _ in range(repeats):
            taken.append((seconds(games, {}), seconds(games, {"OMP_NUM_THREADS": "1"})))
    as_it_is, single = zip(*taken, strict=True)
    return {
        "cores": os.cpu_count(),
        "games": games,
        "seconds": round(statistics.median(as_it_is), 1),
        "one thread": round(statistics.median(single), 1),
        "ratio": round(statistics.median(a / s for a, s in taken), 2),
    }


@contextmanager
def busy_process() -> Iterator[None]:
    """Another process that computes all the while."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds(games: int, surroundings: dict[str, str]) -> float:
    """Wall time of the scenario with these variables in its environment."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        log = str(Path(folder) / "log.db")
        command = [
            sys.executable,
            "-c",
            "from arena.cli.app import main; main()",
            "play",
            "quickstart",
            "--games",
            str(games),
        ]
        began = time.perf_counter()
        subprocess.run(
            [*command, "--log", log],
            check=True,
            env={**inherited, **surroundings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args(arguments)
    print(table([measure(given.games, given.repeats)]), flush=True)


if __name__ == "__main__":
    main()
