"""Boards made by hand, of any size, with something of everything that a board can say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from arena.evaluation.benign.kinds import CLIENTS
from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.league.board import (
    Board,
    CellFigures,
    Equilibrium,
    Finding,
    MatrixBoard,
    Member,
    PairTest,
    Rank,
    Rating,
    WorstCase,
)
from arena.league.rates import Median, Rate
from arena.rules.threat import Threat
from arena.statistics import wilson

ATTACKERS = (
    "square",
    "eot (repeats=5)",
    "hop-skip-jump",
    "boundary",
    "an-attacker-with-a-long-name",
    "noise",
)
DEFENDERS = ("none", "snd (sigma=0.01)", "predcoin", "aaa-sine", "conv-parity", "a-defender-of-a-long-name")
GAMES = 200


def share(value: float, games: int = GAMES) -> Rate:
    return Rate(value, *wilson(value * games, games))


def names(known: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(known[i] if i < len(known) else f"{known[i % len(known)]}-{i}" for i in range(count))


def cell(a: int, d: int, at: int, attacker: str, defender: str, **changes: Any) -> CellFigures:
    """A random defender where d is odd."""
    kept = round(GAMES * (0.15 + 0.7 * ((7 * d + 3 * a) % 11) / 10)) / GAMES
    random = d % 2 == 1
    counts = [c for c in (0, 5, 25, 100, 250, 500, 1000, 2500) if c <= at]
    curve = [(c, kept + (0.95 - kept) * (1 - c / at) ** 2) for c in counts]
    lucky = max(0.0, kept - 0.1 * random)
    left = {"answered": share(lucky), "vote": share(kept), "base": share(min(1.0, kept + 0.05 * random))}
    made = CellFigures(
        attacker=attacker,
        defender=defender,
        games=GAMES,
        played=190,
        images=GAMES,
        failed=0,
        verdict="vote" if random else "answered",
        left=left,
        success={verdict: share(1 - rate.value, 190) for verdict, rate in left.items()},
        distance=None,
        queries_mean=Median(at * 0.61, at * 0.55, at * 0.67),
        queries_median=Median(at * 0.5, at * 0.4, float(at)),
        hits_median=Median(at * 0.2, at * 0.1, at * 0.3),
        refused=0.0 if d < 3 else 0.031,
        flagged=None if d == 0 else 0.12,
        insider=12.0 if d == 3 else 0.0,
        curve=curve,
        facts=(
            {
                "log": "one.db",
                "run": 1,
                "match": 100 * a + d,
                "scenario": "hand",
                "seed": 7,
                "draw": "3f9c" * 16,
                "command": "arena play hand.toml --log one.db",
                "device": "cpu",
                "versions": {"arena": "1.2", "torch": "2.4"},
                "fingerprint": "ab12" * 16,
                "attacker": attacker.partition(" ")[0],
                "attacker_params": {"p": 0.3},
                "defender": defender.partition(" ")[0],
                "defender_params": {"defenders": [{"name": defender.partition(" ")[0], "sigma": 0.01}]},
            },
        ),
    )
    return replace(made, **changes)


def utility(d: int) -> Utility:
    return Utility(
        images=1000,
        accuracy=0.95 - 0.01 * d,
        low=0.935 - 0.01 * d,
        high=0.962 - 0.01 * d,
        declined=0.0,
        refused=0.004 * (d == 3),
        agreement=1.0 - 0.015 * d,
        ece=0.01,
        ece_mass=0.01,
        nll=0.2,
        batch=256,
        cost_1=1.02 + d,
        cost_1_low=0.97 + d,
        cost_1_high=1.06 + d,
        cost_batch=1.01 + d / 2,
        cost_batch_low=0.98 + d / 2,
        cost_batch_high=1.03 + d / 2,
        seconds_1=0.001,
        seconds_batch=0.0001,
        peak_bytes=10**6,
        flagged=0.012 * (d > 0),
    )


def benign(d: int) -> list[BenignLoss]:
    """What nine kinds of clients lose to a defender, more with each kind."""
    histories = ("empty", "benign-1000", "poison-1000") if d % 3 == 2 else ("empty",)
    losses = []
    for history in histories:
        for place, (name, client) in enumerate(CLIENTS.items()):
            sessions, queries = 20, 20 * client.queries
            refused = queries * d * place // 100
            some = 20 if refused else 0
            counts = (refused, refused, 0, 0, 0.004 * queries * d, some, some, 0, int(d > 0), some)
            losses.append(BenignLoss(name, history, sessions, queries, 1, *counts, 0.0004, 0.0003, 0.0005))
    return losses


def findings(attackers: Sequence[str], defenders: Sequence[str]) -> list[Finding]:
    def one(
        indicator: str, status: Any, grave: bool, a: str, d: str, evidence: str, advice: str = ""
    ) -> Finding:
        return Finding(indicator, status, grave, a, d, evidence, advice)

    return [
        one(
            "still-improving",
            "found",
            False,
            attackers[0],
            defenders[1],
            "In 41 of 60 games that kept their vote the margin still fell over the last tenth.",
            "Play again with twice the budget.",
        ),
        one(
            "weak-attack",
            "found",
            True,
            attackers[-1],
            defenders[-1],
            "Plain noise leaves 40.0 %, this attacker 71.5 % on the same images.",
            "Look for a fault in the attacker.",
        ),
        one("duplicates", "found", False, attackers[-1], "", "52 % of its queries are duplicates.", ""),
        one("duplicates", "clear", False, attackers[0], "", "0 of 12,000 queries are duplicates."),
        one("broken-control", "clear", True, "", "", "Every attacker leaves none at most 3 %."),
        *(
            one("frozen-draws", "unchecked", True, a, d, "it needs play: arena audit --replay")
            for a in attackers
            for d in defenders[1:2]
        ),
        one("epsilon-infinite", "unchecked", False, "", "", "no other epsilon was played"),
    ]


def equilibrium(attackers: Sequence[str], defenders: Sequence[str]) -> Equilibrium:
    return Equilibrium(
        value=Rate(0.613, 0.55, 0.67),
        defenders=[Member(defenders[1], 0.62, 0.94), Member(defenders[-1], 0.38, 0.71)],
        attackers=[Member(attackers[0], 0.8, 1.0), Member(attackers[1], 0.2, 0.43)],
        exploitability=Rate(0.021, 0.0, 0.06),
        pure=defenders[1],
        pure_value=Rate(0.55, 0.48, 0.62),
        caps={"accuracy": 0.05, "delay": None},
        left_out={attackers[-1]: "it has not played against every defender"},
        status="optimal",
        gap=3.1e-12,
    )


def ranks(agents: Sequence[str], withheld: str) -> list[Rank]:
    last = len(agents) - 1
    made = [
        Rank(agent, share(0.9 - 0.8 * i / max(last, 1)), max(1, i), min(last, i + 2))
        for i, agent in enumerate(agents[:-1])
    ]
    return [*made, Rank(agents[-1], Rate(math.nan, 0, 1), 1, len(agents), withheld)]


def matrix(attackers: int = 4, defenders: int = 4, at: int = 1000, **changes: Any) -> MatrixBoard:
    """Without the cell of the second attacker and the last defender; of the last attacker one cell is two
    ends, one failed, one is withheld."""
    own, other = names(ATTACKERS, attackers), names(DEFENDERS, defenders)
    cells = {
        (a, d): cell(i, j, at, a, d)
        for i, a in enumerate(own)
        for j, d in enumerate(other)
        if (i, j) != (1, defenders - 1)
    }
    last = own[-1]
    cells[last, other[1]] = replace(
        cells[last, other[1]], two_ends=True, withheld="answered and vote are two ends"
    )
    cells[last, other[0]] = replace(
        cells[last, other[0]],
        failed=190,
        success={verdict: share(0.0, 190) for verdict in ("answered", "vote", "base")},
    )
    cells[last, other[-1]] = replace(
        cells[last, other[-1]],
        withheld="weak-attack was found",
        conflicts=(
            "3 of 200 games came out otherwise in run 2 of two.db than in run 1 of one.db, which is shown",
        ),
    )
    strongest = share(0.31)
    made = MatrixBoard(
        dataset="digits",
        classifier="digits_cnn",
        threat=Threat(norm="linf", epsilon=8 / 255, budget=at, objective="submit"),
        at=at,
        attackers=own,
        defenders=other,
        cells=cells,
        missing=[(own[1], other[-1])],
        worst=[
            WorstCase(
                d, share(0.3 - 0.02 * j), j % 2 == 0, {own[0]: 0.7, own[1]: 0.3}, own[0], strongest, own[:-1]
            )
            for j, d in enumerate(other)
        ],
        defender_ranks=ranks(other, "it lacks a cell"),
        attacker_ranks=ranks(own, "a grave finding: weak-attack"),
        tests=[PairTest(other[0], other[1], Rate(0.05, 0.01, 0.09), GAMES, 0.01, 0.03)],
        ratings=[
            *(
                Rating(a, "attacker", Rate(1600 - 40 * i, 1560 - 40 * i, 1640 - 40 * i))
                for i, a in enumerate(own)
            ),
            *(
                Rating(d, "defender", Rate(1400 + 30 * j, 1350 + 30 * j, 1450 + 30 * j))
                for j, d in enumerate(other)
            ),
        ],
        equilibrium=equilibrium(own, other),
        utilities={d: utility(j) for j, d in enumerate(other)},
        findings=findings(own, other),
        benign={d: benign(j) for j, d in enumerate(other) if j != 1},
    )
    return replace(made, **changes)


def board(*matrices: MatrixBoard, **changes: Any) -> Board:
    made = Board(
        title="A board made by hand",
        sentences=[
            "Against the strongest of its attackers snd (sigma=0.01) keeps 28.0 % [22, 35] of 200 images.",
            "Whether predcoin keeps more than no defense is open (95 % intervals overlap).",
            "The audit found 3 things, one of them grave: the cell gets no rank.",
        ],
        logs=[
            {
                "log": "one.db",
                "runs": [
                    {
                        "run": 1,
                        "scenario": "hand",
                        "title": "By hand",
                        "started": datetime(2026, 11, 29, 20, 30),
                        "ended": None,
                        "seed": 7,
                    }
                ],
                "versions": [{"arena": "1.2", "torch": "2.4"}],
                "devices": ["cpu"],
                "draws": ["3f9c" * 16],
            }
        ],
        matrices=matrices or (matrix(), matrix(at=100)),
    )
    return replace(made, **changes)
