"""Draws keyed by (seed, game, turn) over torch's own of the same shape.

python -m bench.draws
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from arena import draws

SHAPES = ((250, 3, 32, 32), (1000, 1, 8, 8), (8, 3, 224, 224), (250, 4))


def seconds(call: Callable[[], object], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def main() -> None:
    for rows, *shape in SHAPES:
        game = torch.arange(rows)
        for name, keyed, own in (
            ("normal", draws.normal, torch.randn),
            ("uniform", draws.uniform, torch.rand),
        ):
            ours, theirs = partial(keyed, 1, game, 2, shape), partial(own, (rows, *shape))
            repeats = max(1, 2_000_000 // (rows * torch.Size(shape).numel()))
            ours(), theirs()
            ratios, taken = [], []
            for _ in range(7):
                taken.append(seconds(ours, repeats))
                ratios.append(taken[-1] / seconds(theirs, repeats))
            line = {"draw": name, "shape": [rows, *shape], "ms": round(statistics.median(taken) * 1e3, 3)}
            print(json.dumps({**line, "over_torch": round(statistics.median(ratios), 2)}), flush=True)


if __name__ == "__main__":
    main()
