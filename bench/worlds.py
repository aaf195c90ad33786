"""What benchmarks are played on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arena.classifiers.devices import resolve_device
from arena.datasets import Split
from arena.game.openings import Openings
from arena.game.shard import GameSetup, play_games, seat_games, seed_of
from arena.game.stack import Stack
from arena.players.registry import Spec, build_attacker
from arena.records.reports import GameRows
from arena.rules.threat import parse_threat
from arena.scenario.files import Scenario, parse_scenario
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds

WORLDS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits"},
    "mnist": {
        "dataset": "mnist",
        "classifier": {"network": "cnn-a", "weights": "mnist_cnn_a_adv.safetensors"},
    },
    "mnist-cw": {
        "dataset": "mnist",
        "classifier": {"network": "cw-mnist-bn", "weights": "mnist_cw_bn.safetensors"},
    },
    "resnet20": {
        "dataset": "cifar10",
        "classifier": {"network": "resnet20", "weights": "cifar10_resnet20.safetensors"},
    },
}
MINIMUM = {"norm": "l2", "epsilon": "inf", "feedback": "label", "objective": "minimum"}
"""The threat that decision-based attacks are measured under; its budget is missing."""


def scenario(world: str, games: int, threat: dict[str, Any], attacker: Any, **settings: Any) -> Scenario:
    """One match of an attacker against the undefended classifier of a world."""
    table = {"games": games, "shard": 2 * games, "defenders": ["none"], "attackers": [attacker]}
    table |= {"threat": threat, **WORLDS[world], **settings}
    return parse_scenario(table, "bench", Path.cwd(), "bench")


def load_world(name: str, games: int, data: Sequence[Path]) -> LoadedWorld:
    """A world with `games` images drawn that its classifier gets right."""
    threat = {**MINIMUM, "budget": 1}
    match = scenario(name, games, threat, "hop-skip-jump").matches[0]
    return LoadedWorlds(Path.cwd(), data, resolve_device("cpu")).of(match)


def games_of(stack: Stack, split: Split, place: Tensor, rules: Mapping[str, Any], attacker: Spec) -> GameRows:
    """Games of an attacker from the images at these places [G] of a split, under a threat's rules."""
    device = stack.base.device
    openings = Openings(
        split.take(place).to(device), split.labels[place].to(device), split.index[place].to(device)
    )
    referee = seat_games(GameSetup(stack, openings, parse_threat(rules), seed_of("defender", 0, 0)))
    return play_games(build_attacker(attacker), referee, referee.seat(seed=seed_of("attacker", 0, 0)))


def drawn_games(world: LoadedWorld) -> tuple[Tensor, Tensor]:
    """Images [G,C,H,W] and labels [G] of a world, those that the classifier gets right."""
    split, place = world.dataset.games, world.drawn.index[world.drawn.right]
    return split.take(place), split.labels[place]


def images(world: LoadedWorld, rows: int) -> Tensor:
    """As many of a world's images [rows,C,H,W] as that, over and over if there are too few."""
    split = world.dataset.games
    return split.take(torch.arange(rows) % len(split)).to(world.classifier.device)
