"""Processor time and memory of a Square match over the bare forward passes that it needs.

python -m bench.square [--world digits|resnet20] [--games G] [--budget Q] [--data DIR] [--repeats R]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from arena.running.runner import Run
from bench.replay import CANDIDATES, best_rate, play_and_replay
from bench.worlds import images, scenario

MATCHES: dict[str, tuple[dict[str, Any], Any]] = {
    "digits": ({"epsilon": 0.1}, {"name": "square", "p": 0.3}),
    "resnet20": ({"epsilon": "4/255", "quantisation": "floor"}, "square"),
}
"""The threat, without its budget, and the attacker in each world."""


def measure(world: str, games: int, budget: int, data: list[Path], repeats: int) -> dict[str, Any]:
    """Plays the match `repeats` times, each followed by the bare forward passes of the same batch sizes."""
    threat, attacker = MATCHES[world]
    given = scenario(world, games, {**threat, "budget": budget}, attacker, log="queries")
    run = Run(given, data_dirs=data)
    classifier = run.worlds[0].classifier
    x = images(run.worlds[0], max(classifier.batch, *CANDIDATES))
    for _ in play_and_replay(run, 1):
        pass  # what is done once (fingerprints, first calls) does not count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    over_same, over_best, seconds = [], [], []
    for played in play_and_replay(run, repeats, time.process_time):
        seconds.append(played.seconds)
        over_same.append(played.over_forward)
        best, rate = best_rate(classifier, x, time.process_time)
        over_best.append(played.seconds / (played.rows / rate))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "world": world,
        "threads": classifier.threads,
        "games": games,
        "budget": budget,
        "rows": played.rows,
        "mean_batch": round(float(np.mean(played.sizes)), 1),
        "seconds": round(statistics.median(seconds), 3),
        "over_same_batches": round(statistics.median(over_same), 3),
        "over_best_batch": round(statistics.median(over_best), 3),
        "all_over_same": [round(v, 3) for v in over_same],
        "best_batch": best,
        "rows_per_second": round(played.rows / statistics.median(seconds)),
        "peak_mib": round(peak / 1024),
        "peak_above_start_mib": round((peak - before) / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=MATCHES, default="digits")
    parser.add_argument("--games", type=int, default=600)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measure(options.world, options.games, options.budget, options.data, options.repeats)))


if __name__ == "__main__":
    main()
