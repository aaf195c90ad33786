"""The cost of answering: seconds per query relative to the undefended classifier, peak memory, and work."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.classifiers.devices import cuda_peak
from arena.classifiers.threads import CountedWork, multiply_adds
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle, Watch
from arena.players import Rows
from arena.statistics import median_interval

T = TypeVar("T")

SECONDS = (0.2, 5.0)
"""The least and the most seconds for runs of one size; of a slow one there may be only a few runs."""
PAIRS = (6, 400)
"""The least and the most pairs of runs: six are the fewest that give an interval."""
SLOW = 20.0
"""Seconds after which there may be fewer pairs than that."""


def measure(
    classifier: Classifier, stack: Stack, images: Tensor, *, seed: int = 0, seconds: float = 0.0
) -> dict[str, Any]:
    """The measured fields of `Utility` for a stack, against the undefended `classifier`.

    The large batch has as many rows as the stack's classifier takes at once: `images` [n,C,H,W], on the
    device, repeated as often as needed. Both sides answer through an Oracle, each row as the first query of
    its own game, and are timed in turns, for about `seconds` at each size, within `SECONDS`. Where the stack
    answers as the classifier alone there is nothing to compare: its costs are NaN.
    """
    seconds = min(max(seconds, SECONDS[0]), SECONDS[1])
    batch = stack.base.batch
    many = images[torch.arange(batch, device=images.device) % len(images)]
    undefended = Stack(classifier)
    one, all_rows = (
        paired(partial(_ask, undefended, x, seed), partial(_ask, stack, x, seed), seconds)
        for x in (many[:1], many)
    )
    if stack.undefended:
        one, all_rows = ((math.nan, math.nan, math.nan, times[3]) for times in (one, all_rows))
    return {
        "batch": batch,
        **dict(zip(("cost_1", "cost_1_low", "cost_1_high"), one[:3], strict=True)),
        **dict(zip(("cost_batch", "cost_batch_low", "cost_batch_high"), all_rows[:3], strict=True)),
        "seconds_1": one[3],
        "seconds_batch": all_rows[3] / batch,
        "peak_bytes": peak_bytes(lambda: _ask(stack, many, seed), stack.base.device),
        "multiply_adds": multiply_adds_of(stack, many[:1], seed),
    }


def paired(
    reference: Callable[[], float], other: Callable[[], float], seconds: float
) -> tuple[float, float, float, float]:
    """The ratio of `other`'s time to `reference`'s: its median over pairs of runs, the lower and upper end of
    that median's 95 % interval (`median_interval`); and the median of `other`'s own time. Both return the
    seconds that they took.

    They take turns in going first, so that neither has the warmer caches. The first pair warms up and is not
    counted, unless it takes a quarter of `seconds`. With fewer pairs than `PAIRS[0]` the interval is from 0
    to infinity.
    """
    began = time.perf_counter()
    pairs = [(reference(), other())]
    if time.perf_counter() - began < seconds / 4:
        pairs.clear()
    while len(pairs) < PAIRS[1]:
        spent = time.perf_counter() - began
        if pairs and spent >= (seconds if len(pairs) >= PAIRS[0] else SLOW):
            break
        if len(pairs) % 2:
            theirs, own = other(), reference()
        else:
            own, theirs = reference(), other()
        pairs.append((own, theirs))
    ratios = [theirs / max(own, 1e-9) for own, theirs in pairs]
    low, high = median_interval(ratios)
    return statistics.median(ratios), max(0.0, low), high, statistics.median(t for _, t in pairs)


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes of tensors that `run` holds at any moment beyond what was held before.

    On CUDA by the allocator's own counter. On the CPU by the allocations and releases that torch's profiler
    records while `run` is repeated under it; memory outside torch's allocator (oneDNN's packed weights, say)
    is not counted. None on other devices, and if a profiler runs already.
    """
    if device.type == "cuda":
        return cuda_peak(run, device)
    if device.type != "cpu" or torch._C._autograd._profiler_enabled():
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler reports its start on stderr
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        run()
    recorded: Any = profiler.profiler
    events = [e for e in recorded.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def multiply_adds_of(stack: Stack, image: Tensor, seed: int = 0) -> float:
    """The multiply-adds of one query of `image` [1,C,H,W], as `Utility` counts them."""
    watch = _WorkWatch()
    StackOracle(stack, seed=seed, watch=watch).respond(image, first_queries(1, image.device))
    own = multiply_adds(stack.base.module, image) if watch.rows else 0.0
    return math.nan if watch.rows and not own else watch.rows * own + watch.work.multiply_adds


class _WorkWatch(Watch):
    """Counts defenders' own work, and the rows that the classifier is asked: a prepared or compiled copy
    hides what it does."""

    def __init__(self) -> None:
        self.work, self.rows = CountedWork(), 0

    def within(self) -> CountedWork:
        return self.work

    def asked(self, x: Tensor, rows: Rows) -> None:
        self.rows += len(x)


def _ask(stack: Stack, x: Tensor, seed: int) -> float:
    """The seconds that one volley of `x` takes, commits included, starting from fresh memories."""
    oracle, rows = StackOracle(stack, seed=seed, games=len(x)), first_queries(len(x), x.device)
    kept = torch.ones(len(x), dtype=torch.bool, device=x.device)

    def answered() -> None:
        oracle.respond(x, rows)
        oracle.commit(kept)

    return timed(x.device, answered)[1]


def timed(device: torch.device, run: Callable[[], T]) -> tuple[T, float]:
    """What `run` gives, and the seconds that it takes on `device`.

    On the CPU they are the processor's: what other processes take of it meanwhile is not counted.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    _wait(device)
    began = clock()
    found = run()
    _wait(device)
    return found, clock() - began


def first_queries(n: int, device: torch.device, key: Tensor | None = None, first: int = 0) -> Rows:
    """Rows [n], each the first query of its own game, at the places from `first` on; `key` [n] numbers the
    games, from 0 if it is None."""
    place = torch.arange(n, device=device)
    return Rows(
        game=place + first,
        key=place if key is None else key,
        turn=torch.ones_like(place),
        account=torch.zeros_like(place),
        place=place,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
