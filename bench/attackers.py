"""What attackers cost over the bare forward passes of the same batch sizes.

python -m bench attackers [--feedback label|scores] [--world digits|resnet20] [--games G ...] [--budget Q]
    [--repeats R] [--only NAME ...] [--data DIR ...]

Every attacker that is content with labels, or with `--feedback scores` every one that needs scores, plays a
match at each number of games, each query logged; then the batches that reached the classifier are forwarded
alone. Wrappers play around Square or HopSkipJump. Those that need a reference network have one where a world
has another network of its data. Where scores are answered the ball is so small that most games last for the
whole budget. One thread, processor time. Without --games and --budget a world takes a few minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from arena.players import Attacker
from arena.players.registry import AgentError, build_attacker, names
from arena.running.runner import Run
from bench.replay import play_and_replay
from bench.tables import table
from bench.worlds import MINIMUM, scenario

SIZES = {"digits": (100, 400), "resnet20": (40, 100)}
"""Games and budget in each world."""


SMALL: dict[str, float] = {"linf": 1 / 255, "l2": 0.05}
"""The radius of the ball where scores are answered."""
WRAPPED = {
    **dict.fromkeys(("account-rotation", "eot", "race", "unfold"), "square"),
    **dict.fromkeys(("vote", "jitter", "query-blinding", "uncertainty-aware"), "hop-skip-jump"),
}
"""Wrappers, and around what they are measured."""
REFERENCES = {"resnet20": {"network": "resnet32", "weights": "cifar10_resnet32.safetensors"}}
"""A reference network in each world that has one."""


def decision_attackers() -> Iterator[tuple[str, Attacker]]:
    """Those that any threat with labels suits, by name."""
    for name, attacker in _built():
        if attacker.needs.feedback == "label" and attacker.needs.knowledge == "none":
            yield name, attacker


def score_attackers() -> Iterator[tuple[str, Attacker]]:
    """Those that need scores, by name; what they know of the defense they are told."""
    for name, attacker in _built():
        if attacker.needs.feedback != "label" and attacker.needs.knowledge in ("none", "defense"):
            yield name, attacker


def _built() -> Iterator[tuple[str, Attacker]]:
    for name in names("attacker"):
        inside = {"of": WRAPPED[name]} if name in WRAPPED else {}
        try:
            yield name, build_attacker({"name": name, **inside})
        except AgentError:  # it has a parameter that must be given
            continue


def threat_for(attacker: Attacker, budget: int, world: str) -> dict[str, Any]:
    """With labels, minimum l2 where the attacker plays it, else linf; with scores, a small ball in linf where
    it plays that, else l2. With the knowledge and the resources that it needs."""
    needs = attacker.needs
    resources: dict[str, Any] = {"images": needs.images, "starts": needs.needs_starts(False)}
    if needs.surrogates and world in REFERENCES:
        resources["surrogates"] = [REFERENCES[world]]
    granted = {"budget": budget, "knowledge": needs.knowledge, "resources": resources}
    if needs.feedback == "label":
        return {**MINIMUM, **granted, "norm": "l2" if "l2" in needs.norms else "linf"}
    norm = "linf" if "linf" in needs.norms else "l2"
    return {**granted, "norm": norm, "epsilon": SMALL[norm], "feedback": "logits", "objective": "first"}


def measure(
    world: str, name: str, attacker: Attacker, games: int, budget: int, data: list[Path], repeats: int
) -> dict[str, object]:
    """One attacker's row of the table; the ratio is the median of ratios, each within one repeat."""
    threat = threat_for(attacker, budget, world)
    warm = Run(
        scenario(world, 2, threat | {"budget": 10}, attacker, log="queries", utility=0), data_dirs=data
    )
    run = Run(scenario(world, games, threat, attacker, log="queries", utility=0), data_dirs=data)
    for _ in play_and_replay(warm, 1):
        pass
    all_played = list(play_and_replay(run, repeats, time.process_time))
    played = all_played[-1]
    return {
        "world": world,
        "attacker": name,
        "games": games,
        "rows": played.rows,
        "passes": len(played.sizes),
        "mean batch": round(played.rows / len(played.sizes), 1),
        "queries/s": round(statistics.median(p.rows / p.seconds for p in all_played)),
        "forward rows/s": round(statistics.median(p.rows / p.forward_seconds for p in all_played)),
        "over forward": round(statistics.median(p.over_forward for p in all_played), 2),
        "us/pass beside": round(
            statistics.median((p.seconds - p.forward_seconds) / len(p.sizes) for p in all_played) * 1e6
        ),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feedback", choices=("label", "scores"), default="label")
    parser.add_argument("--world", choices=SIZES, default="digits")
    parser.add_argument("--games", type=int, nargs="+")
    parser.add_argument("--budget", type=int)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--data", type=Path, action="append", default=[])
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    games, budget = SIZES[given.world]
    every = decision_attackers() if given.feedback == "label" else score_attackers()
    rows = [
        measure(given.world, name, attacker, size, given.budget or budget, given.data, given.repeats)
        for name, attacker in every
        if given.only is None or name in given.only
        if not attacker.needs.surrogates or given.world in REFERENCES
        for size in given.games or [games]
    ]
    print(table(rows), flush=True)


if __name__ == "__main__":
    main()
