"""Wall time and memory of a Square match over the bare forward passes that it needs.

python -m bench.match [--world digits|resnet20] [--games G] [--budget Q] [--data DIR] [--repeats R]
    [--threads T]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.log import open_log
from arena.runner import Run
from arena.scenario import Scenario, parse_scenario

WORLDS: dict[str, dict[str, Any]] = {
    "digits": {"threat": {"epsilon": 0.1}, "attackers": [{"name": "square", "p": 0.3}]},
    "resnet20": {
        "dataset": "cifar10",
        "classifier": {"network": "resnet20", "weights": "cifar10_resnet20.safetensors"},
        "threat": {"epsilon": "4/255", "quantisation": "floor"},
        "attackers": ["square"],
    },
}
CANDIDATES = (32, 64, 128, 256, 512)
"""Batch sizes among which the best is looked for."""


class Unwatched:
    """A watcher that does not look."""

    def match(self, match: Any, games: int) -> None:
        pass

    def played(self, queries: int) -> None:
        pass

    def ended(self, games: int, skipped: bool) -> None:
        pass


def scenario(world: str, games: int, budget: int) -> Scenario:
    """One Square match against the undefended classifier of a world, every query logged."""
    table = {"games": games, "shard": 2 * games, "defenders": ["none"], "log": "queries", **WORLDS[world]}
    table["threat"] = {**table["threat"], "budget": budget}
    return parse_scenario(table, "bench", Path.cwd(), "bench")


def count_batches(classifier: Classifier) -> list[int]:
    """The sizes of all batches that reach the network that the classifier runs from now on."""
    sizes: list[int] = []

    def note(_: Any, given: tuple[Tensor, ...]) -> None:
        sizes.append(len(given[0]))

    classifier.forward.module.register_forward_pre_hook(note)
    return sizes


def forward(classifier: Classifier, x: Tensor, sizes: list[int]) -> float:
    """Seconds of bare forward passes of these batch sizes."""
    began = time.perf_counter()
    for size in sizes:
        classifier(x[:size])
    return time.perf_counter() - began


def best_rate(classifier: Classifier, x: Tensor) -> tuple[int, float]:
    """The batch size with the most rows per second, and that number."""
    rates = {}
    for size in CANDIDATES:
        forward(classifier, x, [size])
        rates[size] = statistics.median(size / forward(classifier, x, [size]) for _ in range(9))
    best = max(rates, key=lambda size: rates[size])
    return best, rates[best]


def measure(world: str, games: int, budget: int, data: list[Path], repeats: int) -> dict[str, Any]:
    """Plays the match `repeats` times, each followed by the bare forward passes of the same batch sizes."""
    run = Run(scenario(world, games, budget), data_dirs=data)
    classifier = run.grounds[0].classifier
    batch = max(classifier.batch, *CANDIDATES)
    source = run.grounds[0].dataset.games
    x = source.take(torch.arange(batch) % len(source)).to(classifier.device)
    sizes = count_batches(classifier)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    over_same, over_best, seconds = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        with open_log(Path(folder) / "warm.db") as log:
            run.play(log, Unwatched())  # what is done once (fingerprints, first calls) does not count
        for repeat in range(repeats):
            sizes.clear()
            with open_log(Path(folder) / f"{repeat}.db") as log:
                began = time.perf_counter()
                run.play(log, Unwatched())
                seconds.append(time.perf_counter() - began)
            played = list(sizes)
            over_same.append(seconds[-1] / forward(classifier, x, played))
            best, rate = best_rate(classifier, x)
            over_best.append(seconds[-1] / (sum(played) / rate))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "world": world,
        "threads": torch.get_num_threads(),
        "games": games,
        "budget": budget,
        "rows": sum(played),
        "mean_batch": round(float(np.mean(played)), 1),
        "seconds": round(statistics.median(seconds), 3),
        "over_same_batches": round(statistics.median(over_same), 3),
        "over_best_batch": round(statistics.median(over_best), 3),
        "all_over_same": [round(v, 3) for v in over_same],
        "best_batch": best,
        "rows_per_second": round(sum(played) / statistics.median(seconds)),
        "peak_mib": round(peak / 1024),
        "peak_above_start_mib": round((peak - before) / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=WORLDS, default="digits")
    parser.add_argument("--games", type=int, default=600)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options.world, options.games, options.budget, options.data, options.repeats)))


if __name__ == "__main__":
    main()
