"""Decision-based attacks on linear classifiers, whose nearest adversarial image is known.

python -m bench linear [--games G] [--dimension D ...] [--budget Q] [--only NAME ...]

The distance over the minimum at 1k, 5k, 10k and 20k queries, the median over games with its 95 % interval;
and the cosine of the estimate of the normal from n probes at a point of the boundary, beside its closed form
(PopSkipJump, `infomax.py`) E cos = (1 + (d - 1) / (n alpha^2))^(-1/2), alpha^2 = (2 / pi) (1 - 2 epsilon)^2,
where the classifier's answers flip with probability epsilon.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.attackers.decision.hop_skip_jump import HopSkipJump
from arena.api import play
from arena.players import Attacker, Defender, Games, Play, Rows
from arena.players.registry import names
from arena.statistics import bootstrap
from bench.tables import between, table
from bench.worlds import MINIMUM

SHAPES = {784: (1, 28, 28), 3072: (3, 32, 32)}
DISTANCE = 0.2
"""From each image to the plane."""
AT = (1000, 5000, 10_000, 20_000)
EXPECTED = {
    ("hop-skip-jump", 784): (1.66, 1.15, 1.09, 1.05),
    ("hop-skip-jump", 3072): (2.74, 1.46, 1.25, 1.13),
    ("sign-opt", 784): (2.57, 1.13, 1.01, 1.00),
    ("sign-opt", 3072): (4.69, 1.64, 1.21, 1.05),
}
"""Distance over minimum at `AT`, one run each in float64 and without a box."""
PROBES = ((100, 0.0), (200, 0.0), (800, 0.0), (800, 0.25), (800, 0.5))
"""Numbers of probes and rates of flipped answers at which the cosine is measured."""

Floats = NDArray[np.float64]


class Plane(nn.Module):
    """Class 1 where w (x - 1/2) > b, w a unit vector: logits (0, w (x - 1/2) - b), computed in float64."""

    def __init__(self, d: int, b: float, seed: int = 0) -> None:
        super().__init__()
        w = torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.w, self.b = w / w.norm(), b

    def forward(self, x: Tensor) -> Tensor:
        f = (x.double() - 0.5).flatten(1) @ self.w - self.b
        logits: Tensor = torch.stack([torch.zeros_like(f), f], dim=1).float()
        return logits

    def distance(self, x: Tensor) -> Tensor:
        """[n] float64, of images on the side of class 0."""
        far: Tensor = self.b - (x.double() - 0.5).flatten(1) @ self.w
        return far

    def images(self, games: int, shape: tuple[int, ...]) -> Tensor:
        """Images near grey, at distance b but for float32's rounding."""
        u = torch.rand(games, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        u = (u.flatten(1) - 0.5) / 10
        u -= (u @ self.w).unsqueeze(1) * self.w
        return (u + 0.5).view(games, *shape).float()


def over_minimum(name: str, d: int, games: int, at: Sequence[int]) -> dict[int, Floats]:
    """The distance over the minimum of each game [G] at query counts; inf without a hit."""
    plane = Plane(d, DISTANCE)
    x = plane.images(games, SHAPES[d])
    result = play(
        name,
        classifier=plane,
        images=x,
        labels=torch.zeros(games, dtype=torch.int64),
        threat={**MINIMUM, "budget": max(at)},
        at=at,
    )
    least = plane.distance(x).numpy()
    return {q: np.nan_to_num(result.marks[q].l2 / least, nan=np.inf) for q in at}


@dataclass(frozen=True)
class Flips(Defender):
    """Turns the answer of a two-class classifier round with a probability."""

    rate: float

    random = True

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        turned = rows.uniform(()) < self.rate
        return torch.where(turned.unsqueeze(1), scores.flip(1), scores)


@dataclass(frozen=True)
class Estimation(Attacker):
    """Estimates the normal at the clean images, which lie on the boundary, and leaves it in `normals`."""

    probes: int
    normals: list[Tensor] = field(default_factory=list)

    def play(self, games: Games) -> Play:
        i = games.open
        delta = torch.full_like(games.x0[:, 0, 0, 0], 0.1)
        sums = yield from HopSkipJump().estimate(games, games.x0, i, delta, self.probes)
        self.normals.append(sums.normal())


def cosines(d: int, probes: int, rate: float, games: int) -> Floats:
    """The cosine of the estimate from `probes` probes with the plane's normal, [G]."""
    # Grey lies this near to the plane: on it both classes are equal, which is no label.
    plane, attacker = Plane(d, 1e-6), Estimation(probes)
    play(
        attacker,
        Flips(rate),
        classifier=plane,
        images=torch.full((games, *SHAPES[d]), 0.5),
        labels=torch.zeros(games, dtype=torch.int64),
        threat={**MINIMUM, "budget": probes},
        votes=1,
    )
    found: Floats = (torch.cat(attacker.normals).double().flatten(1) @ plane.w).numpy()
    return found


def closed_form(d: int, probes: int, rate: float) -> float:
    """The expected cosine; 0 where answers say nothing."""
    alpha2 = 2 / math.pi * (1 - 2 * rate) ** 2
    return 1 / math.sqrt(1 + (d - 1) / (probes * alpha2)) if alpha2 else 0.0


def distances(
    wanted: Sequence[str], dimensions: Sequence[int], games: int, budget: int
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    at = [q for q in AT if q <= budget]
    for name in wanted:
        if name not in names("attacker"):
            print(f"{name} is left out: there is no attacker of that name", flush=True)
            continue
        for d in dimensions:
            began = time.process_time()
            ratios = over_minimum(name, d, games, at)
            spent = time.process_time() - began
            for q, expected in zip(at, EXPECTED.get((name, d), (math.nan,) * len(AT)), strict=False):
                median = float(np.median(ratios[q]))
                found = {"over minimum": between(median, *bootstrap(ratios[q], np.median))}
                rows.append({"attacker": name, "d": d, "queries": q, **found, "expected": expected})
            rows[-1]["us/query"] = spent / (games * max(at)) * 1e6
    return rows


def estimates(dimensions: Sequence[int], games: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for d in dimensions:
        for probes, rate in PROBES:
            found = cosines(d, probes, rate, games)
            mean = between(float(found.mean()), *bootstrap(found), digits=4)
            closed = closed_form(d, probes, rate)
            rows.append({"d": d, "n": probes, "epsilon": rate, "mean cosine": mean, "closed form": closed})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", type=int, default=20)
    parser.add_argument("--dimension", type=int, nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--budget", type=int, default=max(AT))
    parser.add_argument("--only", nargs="*", default=["hop-skip-jump", "sign-opt"])
    given = parser.parse_args(arguments)
    print(table(estimates(given.dimension, given.games)), flush=True)
    print("\n" + table(distances(given.only, given.dimension, given.games, given.budget)), flush=True)


if __name__ == "__main__":
    main()
