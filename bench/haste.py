"""What attackers gain by going on where answers are no facts, instead of taking their luck.

python -m bench haste [--games G] [--budget Q] [--only NAME ...]

On digits, the same games: under `submit` the share of fresh answers that are wrong (`vote`) for the final
image, beside that of the first image answered wrong (objective `first`); under `minimum` the share of games
whose final image is within epsilon and wins its vote, beside that of the attacker that trusts answers.
Gains are means of paired differences with 95 % bootstrap intervals; `*` where that excludes 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arena.api import play
from arena.notebook.result import Result
from arena.players import Attacker
from arena.players.registry import build_attacker
from arena.statistics import bootstrap
from bench.tables import between, table
from bench.worlds import drawn_games, load_world

SQUARE, HOP = {"name": "square", "p": 0.3}, {"name": "hop-skip-jump"}
ATTACKERS: dict[str, Any] = {
    "square": SQUARE,
    "random-search": {"name": "random-search", "mu": 0.05},
    "bi-square": {"name": "bi-square", "p": 0.3},
    "op-square": {"name": "op-square", "p": 0.3},
    "eot(5, square)": {"name": "eot", "repeats": 5, "of": SQUARE},
    "hop-skip-jump": HOP,
    "pop-skip-jump": "pop-skip-jump",
    "boundary": "boundary",
    "boundary, original": {"name": "boundary", "rules": "original"},
    "rays": "rays",
    "sign-flip": "sign-flip",
    "geoda": "geoda",
    "cgba": "cgba",
    "surfree": "surfree",
    "guessing-smart": {"name": "guessing-smart", "start": "noise"},
    "opt": {"name": "opt", "init_draws": 10},
    "sign-opt": {"name": "sign-opt", "init_draws": 10},
    "svm-opt": {"name": "svm-opt", "init_draws": 10},
    "zo-sign-sgd": {"name": "zo-sign-sgd", "init_draws": 10},
    "rambo": "rambo",
    "vote(5, hop-skip-jump)": {"name": "vote", "repeats": 5, "of": HOP},
    "uncertainty-aware(5, hop-skip-jump)": {"name": "uncertainty-aware", "repeats": 5, "of": HOP},
    "jitter(5, hop-skip-jump)": {"name": "jitter", "repeats": 5, "of": HOP},
    "pgd": "pgd",
    "carlini-wagner": {"name": "carlini-wagner", "iterations": 200, "search_steps": 5},
}
COIN = ("hop-skip-jump", "boundary", "uncertainty-aware(5, hop-skip-jump)")
"""Those that play against PredCoin as well."""
EPSILON = {"linf": 0.15, "l2": 1.0}


def defenders(name: str, attacker: Attacker) -> dict[str, dict[str, Any] | str]:
    """What it plays against: noise that its feedback can bear."""
    scale = 0.05 if attacker.needs.feedback != "label" or attacker.needs.knowledge != "none" else 0.01
    found: dict[str, dict[str, Any] | str] = {
        f"snd {scale}": {"name": "snd", "sigma": scale},
        f"rnd {scale}": {"name": "rnd", "nu": scale},
    }
    return found | ({"predcoin": "predcoin"} if name in COIN else {})


def gain(after: NDArray[np.float64], before: NDArray[np.float64]) -> str:
    """The mean of paired differences [G] with its interval."""
    low, high = bootstrap(after - before)
    star = " *" if low > 0 or high < 0 else ""
    return between(float((after - before).mean()), low, high, 2) + star


def won(result: Result) -> NDArray[np.float64]:
    """[G] whether the final image is in the ball and wins its vote."""
    return (result.vote > 0.5).astype(np.float64)


def rows(games: int, budget: int, only: Sequence[str] | None) -> Iterator[dict[str, object]]:
    world = load_world("digits", games, [])
    images, labels = drawn_games(world)
    parts = (world.dataset.train, world.dataset.calibration)
    train, calibration = ((part.images, part.labels) for part in parts)
    for name, spec in ATTACKERS.items():
        attacker = build_attacker(spec)
        if only is not None and name not in only:
            continue
        needs, label = attacker.needs, attacker.needs.feedback == "label"
        norm = "l2" if label and "l2" in needs.norms else "linf"
        rules = {"norm": norm, "epsilon": EPSILON[norm], "knowledge": needs.knowledge}
        rules |= {"budget": budget, "feedback": "label" if label else "logits"}
        for title, defender in defenders(name, attacker).items():

            def played(
                objective: str,
                trust: bool = False,
                by: Any = attacker,
                of: Any = defender,
                rules: Any = rules,
            ) -> Result:
                return play(
                    by,
                    of,
                    classifier=world.classifier,
                    images=images,
                    labels=labels,
                    train=train,
                    calibration=calibration,
                    threat=rules | {"objective": objective, "trust_answers": trust},
                )

            row: dict[str, object] = {"attacker": name, "defender": title}
            if "submit" in needs.objectives:
                first, submit = (played(objective) for objective in ("first", "submit"))
                row |= {"first hit": round(first.vote.mean(), 2), "submit": round(submit.vote.mean(), 2)}
                row |= {"gain": gain(submit.vote, first.vote)}
                row |= {"queries": f"{first.queries.mean():.0f} / {submit.queries.mean():.0f}"}
            if "minimum" in needs.objectives:
                hasty, own = (played("minimum", trust) for trust in (True, False))
                row |= {"minimum, hasty": round(won(hasty).mean(), 2), "minimum": round(won(own).mean(), 2)}
                row |= {"gain at minimum": gain(won(own), won(hasty))}
            yield row


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", type=int, default=40)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--only", nargs="+")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began, found = time.process_time(), []
    for row in rows(given.games, given.budget, given.only):
        found.append(row)
        print(*row.values(), sep="; ", flush=True)
    print(table(found), f"{time.process_time() - began:.0f} s of processor time", sep="\n", flush=True)


if __name__ == "__main__":
    main()
