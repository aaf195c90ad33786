"""What it costs to play an attacker in a process of its own.

python -m bench isolation [--repeats R] [--data FOLDER]

Per volley of 1 and of 1,000 rows of digits (1 x 8 x 8) and of 3 x 32 x 32 pixels, against a classifier that
costs next to nothing: the seconds of a shard in this process and in one of its own, taken in turns, the least
of each, which other work on the machine disturbs least. Per shard: what it takes to begin a process, build an
attacker and end it. And a match of Square on ResNet-20, where its weights are at hand, as a ratio.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from arena.classifiers import Classifier
from arena.game.openings import Openings
from arena.game.shard import Job, play_shard
from arena.game.stack import Stack
from arena.isolation.attackers import IsolatedAttacker
from arena.isolation.children import nursery
from arena.players import Attacker
from arena.records.pieces import Piece
from arena.rules.threat import Threat
from arena.scenario.identity import modules_of_agents
from arena.scenario.jobs import tasks
from arena.scenario.loaded_worlds import LoadedWorlds
from arena.scenario.prepared_stacks import PreparedStacks
from bench.echo import Echo
from bench.tables import table
from bench.worlds import scenario

SHAPES = {"digits": (1, 8, 8), "3 x 32 x 32": (3, 32, 32)}
VOLLEYS = {1: 400, 1000: 20}
GAMES = 10


class _Nobody:
    """A recorder that keeps nothing."""

    def record(self, piece: Piece) -> None:
        return


class _Mean(nn.Module):
    """Two logits: 0, and the mean of the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(1).mean(dim=1)
        return torch.stack([mean - mean, mean], dim=1)


def apart(attacker: Attacker) -> IsolatedAttacker:
    return IsolatedAttacker(attacker, tuple(modules_of_agents(attacker)))


def job(shape: tuple[int, int, int], attacker: Attacker) -> Job:
    """Games that no query can win."""
    x0 = torch.rand(GAMES, *shape, generator=torch.Generator().manual_seed(0))
    label = torch.ones(GAMES, dtype=torch.int64)
    return Job(
        stack=Stack(Classifier(_Mean(), shape=shape, classes=2)),
        openings=Openings(x0, label, torch.arange(GAMES)),
        threat=Threat(epsilon=0.01, budget=2**24),
        defender_seed=0,
        attacker=attacker,
        attacker_seed=0,
        level="games",
    )


def seconds(play: Callable[[], None]) -> float:
    began = time.perf_counter()
    play()
    return time.perf_counter() - began


def in_turns(here: Job, repeats: int) -> tuple[list[float], list[float]]:
    """The seconds of a job in this process and in one of its own, taken in turns."""
    there = replace(here, attacker=apart(here.attacker))
    pairs = [[seconds(lambda j=j: play_shard(j, _Nobody())) for j in (here, there)] for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def begin_and_end(repeats: int) -> float:
    """What a shard costs more whose attacker makes one volley of one row."""
    here, there = in_turns(job((1, 8, 8), Echo(1, 1)), repeats)
    return min(there) - min(here)


def volleys(repeats: int) -> None:
    """Print what a volley costs more."""
    begun = begin_and_end(repeats)
    print(f"to begin and end a process: {1000 * begun:.0f} ms a shard")
    rows = []
    for name, shape in SHAPES.items():
        for count, number in VOLLEYS.items():
            here, there = in_turns(job(shape, Echo(number, count)), repeats)
            more = min(there) - min(here) - begun
            cells = {"images": name, "rows": count, "here, ms": 1e3 * min(here) / number}
            rows.append({**cells, "more apart, ms": 1e3 * more / number})
    print("a volley:", table(rows), sep="\n")


def resnet20(data: Path, repeats: int) -> None:
    """Print the ratio of a match of Square on ResNet-20."""
    threat = {"epsilon": "8/255", "budget": 50, "feedback": "logits", "objective": "submit"}
    match = scenario("resnet20", 50, threat, "square").matches[0]
    folders = (data, data / "weights")
    world, stacks = LoadedWorlds(Path.cwd(), folders, torch.device("cpu")).of(match), PreparedStacks()
    task = next(iter(tasks(match, world, stacks.prepare(match, world), "games")))
    here, there = in_turns(task.open(world, stacks), repeats)
    print(
        f"square on ResNet-20, {len(world)} games of 50 queries: {min(here):.2f} s here, {min(there):.2f} s "
        f"apart; ratio {min(there) / min(here):.3f}, of the least of {repeats} each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench isolation", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    shared = Path(os.environ.get("ARENA_SHARED", "../shared"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=shared / "data")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"to begin the process that all are forked from: {seconds(lambda: nursery() and None):.1f} s, once")
    volleys(given.repeats)
    if (given.data / "weights" / "cifar10_resnet20.safetensors").is_file():
        resnet20(given.data, given.repeats)
    else:
        print(f"ResNet-20 is left out: its weights are not in {given.data}")
