"""How often the 95 % intervals of boards hold the truth, in worlds whose truth is known.

python -m bench.coverage [--sets N]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from arena.league.equilibrium import equilibrium, solve
from arena.league.estimates import difference, median_distance, share
from arena.league.grid import Grid
from arena.league.pairs import flip_test
from arena.statistics import wilson

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
SIZES = (12, 50, 200)


def votes(random: np.random.Generator, p: Floats) -> Floats:
    return np.asarray(random.binomial(25, p) / 25)


POPULATIONS: dict[str, tuple[float, Draw]] = {
    **{
        f"facts, {p:.0%} lost": (p, lambda r, n, p=p: (r.random(n) < p) * 1.0) for p in (0.02, 0.1, 0.5, 0.98)
    },  # type: ignore[misc]
    **{f"votes, all {p:.0%}": (p, lambda r, n, p=p: votes(r, np.full(n, p))) for p in (0.02, 0.5)},  # type: ignore[misc]
    "votes, Beta(.2, .8)": (0.2, lambda r, n: votes(r, r.beta(0.2, 0.8, n))),
    "votes, Beta(.1, 3)": (0.1 / 3.1, lambda r, n: votes(r, r.beta(0.1, 3, n))),
    "votes, 3% at .95, else .03": (0.0576, lambda r, n: votes(r, np.where(r.random(n) < 0.03, 0.95, 0.03))),
    "three replays, 10% at .5": (0.05, lambda r, n: r.binomial(3, np.where(r.random(n) < 0.1, 0.5, 0)) / 3),
}


def plain_bootstrap(random: np.random.Generator, x: Floats) -> tuple[float, float]:
    means = x[random.integers(len(x), size=(400, len(x)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return low, high


def shares(random: np.random.Generator, sets: int) -> None:
    for name, (truth, draw) in POPULATIONS.items():
        for n in SIZES:
            held = np.zeros(3)
            for _ in range(sets):
                x = draw(random, n)
                ends = (
                    [(own := share(x)).low, own.high],
                    wilson(min(x.sum(), n), n),
                    plain_bootstrap(random, x),
                )
                held += [low <= truth <= high for low, high in ends]
            told = dict(zip(("share", "wilson", "bootstrap"), (held / sets).round(3).tolist(), strict=True))
            print(json.dumps({"interval": "share", "population": name, "images": n} | told), flush=True)


def differences(random: np.random.Generator, sets: int) -> None:
    for n in SIZES:
        held, rejected = 0, 0
        for _ in range(sets):
            p = random.beta(0.3, 0.7, n)
            change = votes(random, p) - votes(random, p)
            own = difference(change)
            held += own.low <= 0 <= own.high
            rejected += flip_test(change) < 0.05
        print(
            json.dumps(
                {"interval": "difference", "images": n, "held": held / sets, "rejected": rejected / sets}
            )
        )
    for n in (6, 8, 13, 50):
        found = [median_distance(random.exponential(1, n)) for _ in range(sets)]
        held = sum(own.low <= np.log(2) <= own.high for own in found)
        print(json.dumps({"interval": "median", "images": n, "held": held / sets}), flush=True)


def games(random: np.random.Generator, sets: int) -> None:
    """Agents of random strengths and affinities, images that are hard for all, and chance."""
    points, weight = np.polynomial.hermite_e.hermegauss(40)
    for d, a in ((6, 8), (30, 40)):
        for n in (50, 100, 300):
            found = []
            for _ in range(sets if d == 6 else max(1, sets // 4)):
                s = random.normal(0, 0.8, (d, a)) + random.normal(0, 0.5, (d, 1)) + random.normal(0, 0.5, a)
                taken = (weight / (1 + np.exp(-s[..., None] - np.sqrt(2) * points))).sum(
                    axis=2
                ) / weight.sum()
                z = s.T + random.normal(0, 1, (n, 1, 1)) + random.normal(0, 1, (n, a, d))
                grid = grid_of((random.random(z.shape) < 1 / (1 + np.exp(-z))) * 1.0)
                truth = solve(1 - taken).value
                own = equilibrium(grid, [], {}, resamples=1)
                x = np.zeros(d)
                for member in own.defenders:
                    x[int(member.agent)] = member.share
                lacks = truth - (x @ (1 - taken)).min()
                said = own.exploitability
                found.append(
                    (
                        own.value.low <= truth <= own.value.high,
                        own.value.value - truth,
                        own.value.high - own.value.low,
                        lacks,
                        said.value,
                        said.low <= lacks <= said.high,
                    )
                )
            names = ("held", "bias", "width", "exploitability", "exploitability said", "exploitability held")
            means = np.mean(found, axis=0).round(4).tolist()
            print(
                json.dumps(
                    {"defenders": d, "attackers": a, "images": n} | dict(zip(names, means, strict=True))
                )
            )


def grid_of(lost: Floats) -> Grid:
    """Games [n,A,D] of images of their own, with agents named by number."""
    n, a, d = lost.shape
    names = [tuple(map(str, range(k))) for k in (a, d)]
    nothing = np.full_like(lost, np.inf)
    both = np.stack([lost, lost])
    return Grid(
        names[0], names[1], np.arange(n), lost, both, lost >= 0, nothing, np.stack([nothing, nothing])
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--sets", type=int, default=1000, help="data sets drawn for each line")
    sets = options.parse_args().sets
    random = np.random.default_rng(0)
    shares(random, sets)
    differences(random, sets)
    games(random, max(1, sets // 5))


if __name__ == "__main__":
    main()
