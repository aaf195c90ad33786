"""What it costs to play an attacker in a process of its own.

python -m bench isolation [--repeats R] [--data FOLDER]

Per volley of 1 and of 1,000 rows of digits (1 x 8 x 8) and of 3 x 32 x 32 pixels, against a classifier that
costs next to nothing: the time from one move to the next, in this process and with the attacker in one of its
own; of all volleys the time that one in ten stays below, since other work on the machine only adds to it. Per
shard: what it takes to begin a process, build the attacker and end it. And a match of Square on ResNet-20,
where its weights are at hand, as a ratio.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from arena.classifiers import Classifier
from arena.game.openings import Openings
from arena.game.shard import Job, play_shard
from arena.game.stack import Stack
from arena.isolation.attackers import IsolatedAttacker
from arena.isolation.children import nursery
from arena.players import Attacker, Games, Play
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


@dataclass(frozen=True)
class Timed(Attacker):
    """`of`, with the moments at which it moves."""

    of: Attacker
    moments: list[float] = field(default_factory=list)

    def play(self, games: Games) -> Play:
        play = self.of.play(games)
        try:
            move = next(play)
            while True:
                self.moments.append(time.perf_counter())
                move = play.send((yield move))
        except StopIteration:
            return
        finally:
            play.close()

    @property
    def undisturbed(self) -> float:
        """Seconds from one move to the next, which one in ten stays below."""
        return float(np.quantile(np.diff(self.moments), 0.1))


def volleys(repeats: int) -> None:
    """Print what a volley costs more."""
    print(f"to begin and end a process: {1000 * begin_and_end(repeats):.0f} ms a shard")
    rows = []
    for name, shape in SHAPES.items():
        for count, number in VOLLEYS.items():
            one = Echo(repeats * number, count)
            here, there = Timed(one), Timed(apart(one))
            for player in (here, there):
                play_shard(job(shape, player), _Nobody())
            more = there.undisturbed - here.undisturbed
            cells = {"images": name, "rows": count, "here, ms": 1e3 * here.undisturbed}
            rows.append({**cells, "more apart, ms": 1e3 * more})
    print("a volley:", table(rows), sep="\n")


class _TimedClassifier(Classifier):
    """Counts the seconds of its answers."""

    seconds = 0.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        began = time.perf_counter()
        answer = super().__call__(x)
        self.seconds += time.perf_counter() - began
        return answer


def resnet20(data: Path, repeats: int) -> None:
    """Print what a match of Square on ResNet-20 takes in the classifier and outside of it, by the least."""
    threat = {"epsilon": "8/255", "budget": 20, "feedback": "logits", "objective": "submit"}
    match = scenario("resnet20", 50, threat, "square").matches[0]
    folders = (data, data / "weights")
    world, stacks = LoadedWorlds(Path.cwd(), folders, torch.device("cpu")).of(match), PreparedStacks()
    task = next(iter(tasks(match, world, stacks.prepare(match, world), "games")))
    here = task.open(world, stacks)
    timed = copy.copy(here.stack.base)
    timed.__class__ = _TimedClassifier
    here = replace(here, stack=replace(here.stack, base=timed))
    inside, outside = [], {"here": [], "apart": []}
    for _ in range(repeats):
        for where, attacker in (("here", here.attacker), ("apart", apart(here.attacker))):
            before = timed.seconds
            took = seconds(lambda a=attacker: play_shard(replace(here, attacker=a), _Nobody()))
            inside.append(timed.seconds - before)
            outside[where].append(took - inside[-1])
    one, other = (min(inside) + min(outside[where]) for where in ("here", "apart"))
    print(
        f"square on ResNet-20, {len(world)} games of 20 queries: {min(inside):.2f} s in the classifier; "
        f"{min(outside['here']):.2f} s beside it here, {min(outside['apart']):.2f} s apart; "
        f"ratio {other / one:.3f}"
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
