"""The classifier's forward over the naive one (plain module, NCHW, unfused, no_grad), step by step.

python -m bench.forward [--network NAME ...] [--repeats R] [--threads T] [--device D] [--no-compile]

All ways run in the threads that the classifier takes, or in T.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.devices import largest_batch, resolve_device
from arena.classifiers.forward import Forward, bf16, channels_last, compiled, fused
from arena.classifiers.networks import NETWORKS, Normalised
from arena.classifiers.threads import computing_threads
from arena.modes import own_modes

NAIVE = 256
"""The batch size that a user would take, where a pass has as many rows."""
ROWS = {"digits-cnn": 4096, "resnet20": 512, "resnet50": 32}
"""The networks timed by default, and the rows of a pass on the CPU; 256 for others."""
CUDA_ROWS = 4096
"""Rows of a pass on a GPU."""


def network(name: str) -> nn.Module:
    """A network of the table behind its normalisation, random weights and BatchNorm statistics."""
    known = NETWORKS[name]
    torch.manual_seed(0)
    net = known.factory()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features) / 10
            layer.running_var = torch.rand(layer.num_features) + 0.5
    whole = Normalised(net, known.mean, known.std) if any(known.mean) else net
    return whole.eval().requires_grad_(False)


def naive(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """The forward that a user would write."""

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(x)
        return logits

    return run


def seconds(run: Callable[[Tensor], Tensor], x: Tensor, batch: int) -> float:
    """One pass over x in pieces."""
    began = time.perf_counter()
    for piece in x.split(batch):
        run(piece)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - began


def measure(
    name: str, device: torch.device, repeats: int, compile: bool, threads: int | None
) -> list[dict[str, Any]]:
    """Each way's milliseconds per row, and its gain over both naive ones, each ratio within one repeat."""
    shape = NETWORKS[name].shape
    classifier = Classifier(network(name), shape=shape, classes=0, device=device)
    batch = classifier.batch = largest_batch(classifier)
    rows = CUDA_ROWS if device.type == "cuda" else ROWS.get(name, 256)
    x = torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    plain = Forward(classifier.module, device)
    laid = channels_last(plain)
    both = channels_last(fused(plain))
    ways: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
        "naive": (naive(classifier.module), min(NAIVE, rows)),
        "naive, same batch": (naive(classifier.module), batch),
        "channels-last": (laid, batch),
        "channels-last, fused": (both, batch),
        "classifier": (partial(classifier.forward, most=batch), batch),
        "bf16": (bf16(both), batch),
    }
    if compile:
        ways["compiled"] = compiled(both), batch
    taken: dict[str, list[float]] = {way: [] for way in ways}
    warm: dict[str, float] = {}
    number = threads or classifier.threads
    with computing_threads(number):
        for way, (run, size) in ways.items():
            warm[way] = seconds(run, x[:size], size)
        for _ in range(repeats):
            for way, (run, size) in ways.items():
                taken[way].append(seconds(run, x, size))
    first, second = list(taken)[:2]
    return [
        {
            "network": name,
            "device": str(device),
            "threads": number,
            "way": way,
            "batch": ways[way][1],
            "ms_per_row": round(statistics.median(times) / rows * 1e3, 4),
            "gain": round(_median_ratio(taken[first], times), 2),
            "gain_same_batch": round(_median_ratio(taken[second], times), 2),
            "first_call_s": round(warm[way], 2),
        }
        for way, times in taken.items()
    ]


def _median_ratio(over: list[float], under: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-compile", action="store_true", help="compiling takes up to a minute a network")
    given = parser.parse_args()
    for name in given.network:
        where = resolve_device(given.device)
        with own_modes():
            for line in measure(name, where, given.repeats, not given.no_compile, given.threads):
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
