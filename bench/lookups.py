"""What a look-up costs in the memory of each defender with a history, fingerprinting included.

python -m bench lookups [--stored 1000 10000 100000] [--shapes cifar mnist]

Processor time of this process: by the clock it is the same where nobody else wants the processor. Half of
the stored queries are unrelated, half lie around a few points, as those of attacks do; so do those asked.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import Tensor

from agents.defenders.stateful.blacklight import Blacklight
from agents.defenders.stateful.gwad import GWAD
from agents.defenders.stateful.history import Index, Stateful
from agents.defenders.stateful.piha import PIHA
from agents.defenders.stateful.stateful_detection import StatefulDetection
from agents.defenders.stateful.streams import ATTACKS
from agents.defenders.stateful.updates import network

SHAPES = {"cifar": (3, 32, 32), "mnist": (1, 28, 28)}
CLASSES, ASKED, PIECE = 10, 20, 500
AROUND = 20
"""Points that half of the queries lie around."""


def defenders(stored: int) -> list[Stateful]:
    """The four, as if they were fitted; Stateful Detection raises no alarm, which would empty its memory."""
    detection = StatefulDetection(capacity=stored, delta=1e-6)
    return [
        Blacklight(capacity=stored),
        detection._with(1e-6, None),
        PIHA(capacity=stored),
        GWAD()._with(network(len(ATTACKS) + 1), {}),
    ]


def queries(shape: tuple[int, ...], n: int, number: int) -> Tensor:
    """[n,*shape]: every second one near a point, at a standard deviation of .002."""
    generator = torch.Generator().manual_seed(number)
    x = torch.rand(n, *shape, generator=generator)
    points = torch.rand(AROUND, *shape, generator=torch.Generator().manual_seed(10**6))
    near = points[torch.randint(AROUND, (n,), generator=generator)]
    x[::2] = (near + 0.002 * torch.randn(x.shape, generator=generator))[::2].clamp(0, 1)
    return x


def filled(defender: Stateful, shape: tuple[int, ...], stored: int) -> tuple[Index, float]:
    """A memory of so many queries, and the milliseconds that each took to be remembered."""
    index, spent = defender.index(shape), 0.0
    for begin in range(0, stored, PIECE):
        x = queries(shape, min(PIECE, stored - begin), begin)
        began = time.process_time()
        index.add(defender.features(x), torch.zeros(len(x), CLASSES), torch.zeros(len(x), dtype=torch.bool))
        spent += time.process_time() - began
    return index, spent / stored * 1e3


def looked_up(defender: Stateful, index: Index, shape: tuple[int, ...]) -> list[float]:
    """Milliseconds of each of ASKED look-ups, one query at a time."""
    taken = []
    for x in queries(shape, ASKED, 10**7).split(1):
        began = time.process_time()
        index.find(defender.features(x))
        taken.append((time.process_time() - began) * 1e3)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench lookups")
    parser.add_argument("--stored", type=int, nargs="+", default=[10**3, 10**4, 10**5])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.shapes:
        for stored in given.stored:
            for defender in defenders(stored):
                if defender.unsuited(SHAPES[name]) is None:
                    print(json.dumps(line(defender, name, stored)), flush=True)


def line(defender: Stateful, name: str, stored: int) -> dict[str, object]:
    """What is printed of one memory."""
    index, remembered = filled(defender, SHAPES[name], stored)
    taken = torch.tensor(looked_up(defender, index, SHAPES[name]))
    return {
        "defender": type(defender).__name__,
        "shape": name,
        "stored": stored,
        "look_up_ms": round(float(taken.median()), 3),
        "slowest_ms": round(float(taken.max()), 3),
        "remember_ms": round(remembered, 3),
    }


if __name__ == "__main__":
    main()
