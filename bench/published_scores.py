"""Our score-based attacks beside published ones: same images, same true queries.

    python3.11 -m venv VENV
    VENV/bin/python -m pip install -c constraints.txt -e ".[published]"
    VENV/bin/python -m pip install --no-deps torchattacks    # it asks for torchvision, and does without
    OMP_NUM_THREADS=1 VENV/bin/python -m bench published --scores [--world digits|mnist|resnet20]
        [--games G] [--at Q ...] [--only NAME ...] [--data DIR]

The others are the Adversarial Robustness Toolbox's and torchattacks'. As in `bench published`, they play
image by image against a `Meter`, which charges every row that they forward, and ours follow the library's
rules where an attack knows several. A game ends at its first hit: a row within the ball that the network
gets wrong, whether or not the library's own loop has noticed it.

ART's Square forwards three rows a step (the incumbent twice), so that its number of steps is a third of the
queries: its schedule then ends with them. ART's SimBA knows no ball. ART's ZOO (coordinates for the least
l2 distance) has no counterpart here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.game.openings import Openings
from arena.game.shard import GameSetup, play_games, seat_games
from arena.game.stack import Stack
from arena.players.registry import build_attacker
from arena.rules.threat import TOLERANCE, Norm, Threat, parse_threat
from arena.statistics import bootstrap
from bench.published import Attack, BudgetSpent, Floats, Meter, Side, costs, paired_ratio
from bench.replay import counted, forward
from bench.tables import between, table
from bench.worlds import drawn_games, load_world

RADII: dict[str, dict[Norm, float]] = {
    "digits": {"linf": 0.15, "l2": 1.0},
    "mnist": {"linf": 0.3, "l2": 2.0},
    "resnet20": {"linf": 8 / 255, "l2": 1.0},
}
"""The radius of the ball in each world."""


class Probabilities(nn.Module):
    """A network's logits as probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits.softmax(dim=1)


def toolbox_square(norm: Norm, epsilon: float) -> Attack:
    """ART's Square Attack."""

    def attack(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> object:
        from art.attacks import evasion

        order, steps = np.inf if norm == "linf" else 2, max(1, budget // 3)
        square = evasion.SquareAttack(
            _art(network, x), norm=order, eps=epsilon, max_iter=steps, p_init=0.8, verbose=False
        )
        return square.generate(x.numpy(), y.numpy())

    return attack


def toolbox_simba(norm: Norm, epsilon: float, attack_name: str) -> Attack:
    """ART's SimBA, whose `attack_name` is px or dct."""

    def attack(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> object:
        from art.attacks import evasion

        simba = evasion.SimBA(
            _art(Probabilities(network), x), attack=attack_name, max_iter=budget, epsilon=0.1, verbose=False
        )
        return simba.generate(x.numpy(), np.eye(10)[y.numpy()])

    return attack


def _art(network: nn.Module, x: Tensor) -> Any:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        network.eval(), nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0, 1), device_type="cpu"
    )


def torchattacks_square(norm: Norm, epsilon: float) -> Attack:
    """torchattacks' Square Attack, which is AutoAttack's."""

    def attack(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> object:
        with contextlib.redirect_stdout(io.StringIO()):  # it names no device without weights
            import torchattacks

            square = torchattacks.Square(
                network.eval(),
                norm="Linf" if norm == "linf" else "L2",
                eps=epsilon,
                n_queries=budget,
                seed=int(torch.initial_seed()),
            )
            square.set_device("cpu")
        return square(x, y)

    return attack


@dataclass(frozen=True)
class Pair:
    """An attack of ours under a norm, and the published one that it is compared with."""

    ours: Mapping[str, Any]
    norm: Norm
    library: str
    theirs: Any

    @property
    def name(self) -> str:
        basis = f"-{self.ours['basis']}" if "basis" in self.ours else ""
        return f"{self.ours['name']}{basis}/{self.library}/{self.norm}"


SQUARE = {"name": "square", "p": 0.8, "rescale": True, "clean_query": True}
PIXELS = {"name": "simba", "basis": "pixel", "step": 0.1}
COSINES = {"name": "simba", "basis": "dct", "step": 0.1, "order": "strided", "frequencies": 4, "stride": 1}
PAIRS = (
    Pair(SQUARE, "linf", "art", toolbox_square),
    Pair(SQUARE, "linf", "torchattacks", torchattacks_square),
    Pair(SQUARE, "l2", "torchattacks", torchattacks_square),
    Pair(PIXELS, "l2", "art", lambda norm, epsilon: toolbox_simba(norm, epsilon, "px")),
    Pair(COSINES, "l2", "art", lambda norm, epsilon: toolbox_simba(norm, epsilon, "dct")),
)


def play_ours(
    spec: Mapping[str, Any], classifier: Classifier, x: Tensor, y: Tensor, rules: Threat, at: Sequence[int]
) -> Side:
    """Our side: all games in step; the network's share is that of the same batches replayed."""
    side, player = Side(), build_attacker(spec)
    for counts in [at] if player.needs.prefix else [[q] for q in at]:
        setup = GameSetup(
            Stack(classifier),
            Openings(x, y, torch.arange(len(x))),
            rules.with_budget(max(counts)),
            defender_seed=0,
        )
        with counted(classifier) as sizes:
            began = time.process_time()
            referee = seat_games(setup)
            ended = play_games(player, referee, referee.seat())
            side.seconds += time.process_time() - began
        side.forward_seconds += forward(classifier, x, sizes, time.process_time)
        side.queries += int(ended.queries.sum())
        side.ends.update(ended.reason)
        first = np.where(ended.hit_at == 0, np.inf, ended.hit_at.astype(np.float64))
        side.found |= {q: np.where(first <= q, first, np.inf) for q in counts}
    return side


def play_theirs(
    attack: Attack, network: Any, x: Tensor, y: Tensor, rules: Threat, at: Sequence[int], prefix: bool
) -> Side:
    """Their side: image by image."""
    side = Side()
    for counts in [at] if prefix else [[q] for q in at]:
        first = np.full(len(x), np.inf)
        for place in range(len(x)):
            image, label = x[place : place + 1], y[place : place + 1]
            meter = ScoreMeter(network, image, int(label), max(counts), rules)
            torch.manual_seed(place)
            np.random.seed(place)  # noqa: NPY002  # what they draw from
            began = time.process_time()
            side.ends[_end(attack, meter, image, label)] += 1
            side.seconds += time.process_time() - began - meter.own_seconds
            side.forward_seconds += meter.network_seconds
            side.queries += meter.queries
            first[place] = meter.first_hit
        side.found |= {q: np.where(first <= q, first, np.inf) for q in counts}
    return side


class Hit(Exception):
    """The game is over."""


class ScoreMeter(Meter):
    """A `Meter` that ends the game at the first row that is adversarial within the ball.

    Attributes:
        first_hit: its number; inf without one.
    """

    def __init__(self, network: Any, x0: Tensor, y: int, budget: int, rules: Threat) -> None:
        super().__init__(network, x0, y, budget, rules.norm)
        self.radius, self.first_hit = rules.epsilon + TOLERANCE, np.inf

    def forward(self, x: Tensor) -> Tensor:
        before = self.queries
        try:
            return super().forward(x)
        finally:
            inside = (self.distance[-1] <= self.radius).nonzero() if self.queries > before else []
            if len(inside) and self.first_hit == np.inf:
                self.first_hit = before + 1 + int(inside[0])
                self.queries = int(self.first_hit)
                raise Hit


def _end(attack: Attack, meter: ScoreMeter, x: Tensor, y: Tensor) -> str:
    """Lets an attack play; how it ended."""
    try:
        attack(meter, x.clone(), y.clone(), meter.budget)
    except Hit:
        return "hit"
    except BudgetSpent:
        return "budget"
    except Exception as error:  # of their own making
        return f"{type(error).__name__}: {error}"[:60]
    return "ended"


def successes(name: str, ours: Side, theirs: Side) -> list[dict[str, object]]:
    """The table's rows of a pair, one for each query count: shares of games won, and the first hits.

    Intervals resample images, both sides of each together. A median counts games that were not won as
    infinite, a mean as the number of queries.
    """
    rows: list[dict[str, object]] = []
    for q in sorted(ours.found):
        a, b = ours.found[q], theirs.found[q]
        gain = (a <= q).astype(np.float64) - (b <= q)
        saved = np.minimum(a, q) - np.minimum(b, q)
        rows.append(
            {
                "pair": name,
                "queries": q,
                "success, ours": float((a <= q).mean()),
                "theirs": float((b <= q).mean()),
                "difference": between(float(gain.mean()), *bootstrap(gain, resamples=4000)),
                "median, ours": float(np.median(a)),
                "theirs ": float(np.median(b)),
                "ours/theirs": _ratio(a, b),
                "mean, ours": float(np.minimum(a, q).mean()),
                "theirs  ": float(np.minimum(b, q).mean()),
                "difference ": between(float(saved.mean()), *bootstrap(saved, resamples=4000), digits=1),
            }
        )
    return rows


def _ratio(ours: Floats, theirs: Floats) -> str:
    """Ours over theirs in the median, with its interval; nothing where both won less than half."""
    if np.isinf(np.median(ours)) and np.isinf(np.median(theirs)):
        return ""
    return between(*paired_ratio(ours.reshape(1, -1), theirs.reshape(1, -1)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=tuple(RADII), default="digits")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--at", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--only", nargs="+", default=[pair.name for pair in PAIRS])
    shared = Path(os.environ.get("ARENA_SHARED", "../shared")) / "data"
    parser.add_argument("--data", type=Path, default=shared)
    given = parser.parse_args(arguments)
    if missing := [module for module in ("art", "torchattacks") if find_spec(module) is None]:
        parser.error(f"{' and '.join(missing)} cannot be imported: install them as above")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    world = load_world(given.world, given.games, [given.data, given.data / "weights"])
    x, y = drawn_games(world)
    won: list[dict[str, object]] = []
    cost: list[dict[str, object]] = []
    for pair in PAIRS:
        if pair.name not in given.only:
            continue
        epsilon = RADII[given.world][pair.norm]
        rules = parse_threat(
            {"norm": pair.norm, "epsilon": epsilon, "budget": 1, "feedback": "logits", "objective": "first"}
        )
        prefix = build_attacker(pair.ours).needs.prefix
        ours = play_ours(pair.ours, world.classifier, x, y, rules, given.at)
        theirs = play_theirs(pair.theirs(pair.norm, epsilon), world.classifier, x, y, rules, given.at, prefix)
        found = successes(pair.name, ours, theirs)
        print(f"{table(found)}\nours ended {dict(ours.ends)}, theirs {dict(theirs.ends)}\n", flush=True)
        won += found
        cost.append(costs(pair.name, ours, theirs))
    print(f"\n{given.world}, {len(x)} images, radii {RADII[given.world]}\n{table(won)}\n\n{table(cost)}")


if __name__ == "__main__":
    main()
