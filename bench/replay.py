"""Runs beside the bare forward passes that they need."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from arena.classifiers import Classifier
from arena.log import open_log
from arena.running.runner import Run
from bench.worlds import images

CANDIDATES = (32, 64, 128, 256, 512)
"""Batch sizes among which the best is looked for."""
Clock = Callable[[], float]
"""`time.perf_counter`; `time.process_time` where one thread does all and the machine is shared."""


class Unwatched:
    """A watcher that does not look."""

    def match(self, match: Any, games: int) -> None:
        pass

    def played(self, queries: int) -> None:
        pass

    def failed(self, match: Any, games: int, said: str) -> None:
        pass

    def ended(self, games: int, skipped: bool) -> None:
        pass

    def ended_elsewhere(self, games: int) -> None:
        pass


@dataclass(frozen=True)
class Played:
    """A run played once.

    Attributes:
        seconds: what it took, the log included.
        forward_seconds: what the forward passes alone take, in batches of the same sizes.
        sizes: these sizes.
    """

    seconds: float
    forward_seconds: float
    sizes: list[int]

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    @property
    def over_forward(self) -> float:
        return self.seconds / self.forward_seconds


def play_and_replay(run: Run, repeats: int, clock: Clock = time.perf_counter) -> Iterator[Played]:
    """Play a run of one world `repeats` times, each followed by the bare forward of the same batch sizes."""
    classifier = run.worlds[0].classifier
    x = images(run.worlds[0], max(classifier.batch, *CANDIDATES))
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            with counted(classifier) as sizes, open_log(Path(folder) / f"{repeat}.db") as log:
                began = clock()
                run.play(log, Unwatched())
                seconds = clock() - began
            yield Played(seconds, forward(classifier, x, sizes, clock), sizes)


@contextmanager
def counted(classifier: Classifier) -> Iterator[list[int]]:
    """The sizes of all batches that reach the network that the classifier runs."""
    sizes: list[int] = []

    def note(_: Any, given: tuple[Tensor, ...]) -> None:
        sizes.append(len(given[0]))

    hook = classifier.forward.module.register_forward_pre_hook(note)
    try:
        yield sizes
    finally:
        hook.remove()


def forward(classifier: Classifier, x: Tensor, sizes: list[int], clock: Clock = time.perf_counter) -> float:
    """Seconds of bare forward passes of these batch sizes."""
    began = clock()
    for size in sizes:
        classifier(x[:size])
    return clock() - began


def best_rate(classifier: Classifier, x: Tensor, clock: Clock = time.perf_counter) -> tuple[int, float]:
    """The batch size with the most rows per second, and that number."""
    rates = {}
    for size in CANDIDATES:
        forward(classifier, x, [size])
        rates[size] = statistics.median(size / forward(classifier, x, [size], clock) for _ in range(9))
    best = max(rates, key=lambda size: rates[size])
    return best, rates[best]
