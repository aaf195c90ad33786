"""Whole plays at random: worlds, rules and moves as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

KNOWLEDGE = ("none", "none", "detector", "weights")
PURPOSES = ("gradient", "search", "")
BROKEN_VOLLEYS = (
    "NaN",
    "above 1",
    "below 0",
    "no such game",
    "negative game",
    "no such account",
    "float64",
    "int32 games",
    "fewer games",
    "another shape",
    "too many rows",
    "no text",
    "not a tensor",
)
BROKEN_MOVES = (
    "submit twice",
    "claim NaN",
    "submit no such game",
    "resign for no reason",
    "resign no such game",
    "note a list",
    "note without a key",
    "consult nobody",
    "not a move",
)
T = TypeVar("T")
Delta = tuple[int, int, int, int]
"""A perturbation in sixteenths."""


@dataclass(frozen=True)
class Play:
    """A whole play as plain numbers: the world, the rules, and the moves.

    Attributes:
        x0: clean images in sixteenths.
        wrong: games whose label is not the classifier's; offset: what targets are past the labels.
        memory: of the warden; None: there is no defender.
        moves: what is done, and with what; see `Both.move`.
    """

    weight: list[tuple[int, ...]]
    bias: list[int]
    holes: bool
    batch: int
    x0: list[tuple[int, ...]]
    wrong: list[bool]
    offset: list[int]
    key: list[int]
    threat: dict[str, Any]
    memory: str | None
    random: bool
    seed: int
    at: list[int]
    votes: int
    max_rows: int
    moves: list[tuple[str, Any]]


def radii(objective: str, quantisation: str) -> list[Any]:
    """Radii at which images lie on the very edge, beyond it, and beyond it within the tolerance."""
    found: list[Any] = ["2/16", "4/16", 0.5, 0.5, 4 / 16 - 5e-7, 4 / 16 - 2e-6]
    if quantisation != "none":
        found += ["32/255", "64/255"]
    return found + (["inf"] if objective == "minimum" else [])


def random_play(random: Random) -> Play:
    """A play with a good chance of hits, refusals and bans: most games begin right and near an edge."""
    games = random.choice(
        [random.randint(1, 4), random.randint(8, 24), *[random.randint(48, 96) for _ in range(4)]]
    )
    accounts = random.choice([1, 1, 1, 3, 3])
    weight = [tuple(random.randint(-4, 4) for _ in range(4)) for _ in range(3)]
    bias = [random.randint(-1, 1) for _ in range(3)]
    objective = random.choice(["first", "submit", "minimum"])
    quantisation = random.choice(["none", "round", "floor"])
    threat = {
        "norm": random.choice(["linf", "l2"]),
        "epsilon": random.choice(radii(objective, quantisation)),
        "budget": random.choice([random.randint(1, 12), random.randint(12, 60), random.randint(12, 60)]),
        "feedback": random.choice(["logits", "probabilities", "topk:2", "label"]),
        "goal": random.choice(["untargeted", "targeted"]),
        "objective": objective,
        "quantisation": quantisation,
        "accounts": accounts,
        "knowledge": random.choice(KNOWLEDGE),
    }
    return Play(
        weight=weight,
        bias=bias,
        holes=random.random() < 0.5,
        batch=random.choice([1, 7, *[256] * 18]),
        x0=[_near_an_edge(random, weight, bias) for _ in range(games)],
        wrong=[random.random() < 0.1 for _ in range(games)],
        offset=[random.randint(1, 2) for _ in range(games)],
        key=random.sample(range(1000), games),
        threat=threat,
        memory=random.choice([None, None, None, "none", "game", "account", "service"]),
        random=random.random() < 0.5,
        seed=random.randint(0, 3),
        at=[random.randint(1, 60) for _ in range(random.randint(0, 4))],
        votes=random.choice([1, 3, 4]),
        max_rows=random.choice([7, *[400] * 7]),
        moves=[_move(random, games, accounts) for _ in range(random.randint(2, 16))],
    )


def _near_an_edge(random: Random, weight: list[tuple[int, ...]], bias: list[int]) -> tuple[int, ...]:
    """Of a few images, the one with the highest two scores closest to each other, if they are not equal."""

    def gap(x: tuple[int, ...]) -> float:
        pairs = zip(weight, bias, strict=True)
        _, second, first = sorted(16 * b + sum(v * p for v, p in zip(w, x, strict=True)) for w, b in pairs)
        return first - second or math.inf

    return min((tuple(random.randint(3, 13) for _ in range(4)) for _ in range(4)), key=gap)


def _move(random: Random, games: int, accounts: int) -> tuple[str, Any]:
    chance = random.random()
    if chance < 0.55:
        return "volley", (random.choice(PURPOSES), _rows(random, games, accounts))
    if chance < 0.65:
        how = random.choice(BROKEN_VOLLEYS + BROKEN_MOVES)
        return "broken", (how, _rows(random, games, accounts) or [(0, 0, (0, 0, 0, 0))])
    some = random.sample(range(games), random.randint(0, max(1, games // 3)))
    if chance < 0.78:
        return random.choice(["submit", "claim", "claim"]), [(game, _delta(random)) for game in some]
    if chance < 0.84:
        return random.choice(["resigned", "no-start"]), some
    if chance < 0.94:
        return "note", (random.choice(["accepted", "accepted", "loss"]), _value(random), some)
    asked = [(random.randrange(games), _delta(random)) for _ in range(random.randint(0, 4))]
    return random.choice(["detector", "gradient"]), asked


def _rows(random: Random, games: int, accounts: int) -> list[tuple[int, int, Delta]]:
    """Any games in any order, or all of them once; up to 8 a game on average."""
    if random.random() < 0.2:
        return [(game, 0, _delta(random)) for game in range(games)]
    among: Sequence[int] = range(games) if random.random() < 0.7 else [random.randrange(games)]
    many = random.choice(
        [random.randint(0, 7), random.randint(8, 40), *[min(400, random.randint(4, 8) * games)] * 4]
    )
    return [(random.choice(among), random.randrange(accounts), _delta(random)) for _ in range(many)]


def _delta(random: Random) -> Delta:
    """Often of one size in each pixel, so that distances tie."""
    if random.random() < 0.4:
        size = random.choice([1, 2, 4])
        a, b, c, d = (random.choice([-size, 0, size]) for _ in range(4))
    else:
        far = random.choice([2, 5])
        a, b, c, d = (random.randint(-far, far) for _ in range(4))
    return a, b, c, d


def _value(random: Random) -> str | float:
    values: list[str | float] = ["text", 1.0, -2.5]
    return random.choice(values)
