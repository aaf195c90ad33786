"""What a step of the single environment costs over the forward pass of its one row.

python -m bench env [--steps S] [--repeats R]

On digits, with the rules that the environment has by default. One thread, processor time; each repeat plays S
steps, then passes one row S times alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import cycle

import gymnasium
import numpy as np
import torch

import arena  # noqa: F401  (registers the environment)
from arena.envs.blackbox import BlackBoxEnv
from bench.tables import table

WARM = 50
"""Steps before the first that counts."""


def measure(steps: int, repeats: int) -> dict[str, object]:
    """The medians, in milliseconds; the ratio is the median of ratios, each within one repeat."""
    env = BlackBoxEnv(device="cpu", seed=0)
    classifier = env.setup.stack.base
    x = torch.rand(1, *classifier.shape, generator=torch.Generator().manual_seed(0))
    playing = play(env)
    taken: list[tuple[float, float]] = []
    for count in [WARM, *[steps] * repeats]:
        began = time.process_time()
        for _ in range(count):
            next(playing)
        between = time.process_time()
        for _ in range(count):
            classifier(x)
        taken.append(((between - began) / count * 1e3, (time.process_time() - between) / count * 1e3))
    step, forward = zip(*taken[1:], strict=True)
    return {
        "steps": steps,
        "ms/step": round(statistics.median(step), 3),
        "ms/forward": round(statistics.median(forward), 3),
        "over forward": round(statistics.median(s / f for s, f in taken[1:]), 2),
        "ms beside": round(statistics.median(s - f for s, f in taken[1:]), 3),
    }


def play(env: gymnasium.Env[dict[str, np.ndarray], np.ndarray]) -> Iterator[None]:
    """Step after step of one game after another, with small perturbations that were drawn before."""
    noise = np.random.default_rng(0).uniform(-0.16, 0.16, (16, *env.action_space.shape)).astype(np.float32)
    env.reset()
    for action in cycle(noise):
        _, _, ended, _, _ = env.step(action)
        if ended:
            env.reset()
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(table([measure(given.steps, given.repeats)]), flush=True)


if __name__ == "__main__":
    main()
