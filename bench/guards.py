"""What the guards against agents cost in a match: with them over without them, on the same games.

python -m bench guards [--games G] [--pairs P] [--only NAME ...]

Guards are what is looked at and put back around moves, defenders and shards: torch's settings, the form of
tensors, surroundings, limits. Copies that a Referee took before it had guards stay on both sides. Each pair
plays a match with guards and one without, in turns; processor time, one thread, the log included. The ratio
is the median over pairs, with its 95 % interval. A log without guards is no log: this is for measuring.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from arena.game import driver, shard, stack_oracle
from arena.game.limits import Meter
from arena.log import open_log
from arena.running.runner import Run
from bench.replay import Unwatched
from bench.tables import between, table
from bench.worlds import MINIMUM, scenario

LINF = {"epsilon": 0.1, "budget": 200}
MATCHES: dict[str, tuple[dict[str, Any], Any, list[Any]]] = {
    "square, none": (LINF, {"name": "square", "p": 0.3}, ["none"]),
    "square, snd": (LINF, {"name": "square", "p": 0.3}, [{"name": "snd", "sigma": 0.02}]),
    "hop-skip-jump, none": ({**MINIMUM, "budget": 400}, "hop-skip-jump", ["none"]),
    "sign-opt, none": ({**MINIMUM, "budget": 400}, "sign-opt", ["none"]),
}
"""The threat, the attacker and the defenders of each match."""


@contextmanager
def unguarded() -> Iterator[None]:
    """Without the guards, for measuring what they cost."""
    with ExitStack() as stack:
        for owner, name, instead in (
            (driver, "modes", lambda: None),
            (driver, "timers", lambda: ()),
            (driver, "raise_pending", lambda: None),
            (Meter, "moved", lambda self, seconds: None),
            (Meter, "served", lambda self, idle: None),
            (stack_oracle, "modes", lambda: None),
            (stack_oracle, "blaming", lambda *_: nullcontext()),
            (stack_oracle, "blaming_classifier", lambda name: nullcontext()),
            (stack_oracle, "own_response", lambda defender, response, n, base: response),
            (stack_oracle, "_copied", lambda rows: rows),
            (stack_oracle.StackOracle, "_passed_on", lambda self, defender, z, rows, layer: (z, rows)),
            (shard, "own_surroundings", lambda seed: nullcontext()),
        ):
            stack.enter_context(patch.object(owner, name, instead))
        for module in ("checks", "stack", "stack_oracle"):
            target = f"arena.game.{module}.flaw_of"
            stack.enter_context(patch(target, lambda value: None))
        yield


def measure(name: str, games: int, pairs: int) -> dict[str, object]:
    """A match's row of the table."""
    threat, attacker, defenders = MATCHES[name]
    run = Run(scenario("digits", games, threat, attacker, log="queries", defenders=defenders, utility=0))
    seconds(run)
    taken = []
    for pair in range(pairs):
        order = (True, False) if pair % 2 else (False, True)
        of = {}
        for guarded in order:
            with nullcontext() if guarded else unguarded():
                of[guarded] = seconds(run)
        taken.append((of[True], of[False]))
    ratios = np.array([with_guards / without for with_guards, without in taken])
    resampled = np.random.default_rng(0).choice(ratios, (2000, pairs))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return {
        "match": name,
        "games": games,
        "pairs": pairs,
        "seconds": round(float(np.median([with_guards for with_guards, _ in taken])), 3),
        "over unguarded": between(float(np.median(ratios)), float(low), float(high)),
    }


def seconds(run: Run) -> float:
    """The processor time of playing `run` into a new log."""
    with tempfile.TemporaryDirectory() as folder, open_log(Path(folder) / "x.db") as log:
        began = time.process_time()
        run.play(log, Unwatched())
        return time.process_time() - began


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=MATCHES)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(table([measure(n, given.games, given.pairs) for n in given.only or MATCHES]), flush=True)


if __name__ == "__main__":
    main()
