"""A match, or a defender's utility, from Python in one call, no file needed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.devices import resolve_device, sized
from arena.classifiers.threads import computing_threads
from arena.datasets import Split
from arena.datasets.own_arrays import read_images, read_labels, read_split
from arena.evaluation.clean_images import Evaluation
from arena.evaluation.clean_utility import Utility
from arena.game.openings import Openings, ResourcePool, draw_resources, draw_targets
from arena.game.shard import Job, play_shard, seed_of
from arena.game.stack import Stack, prepare
from arena.modes import own_modes
from arena.players import Attacker
from arena.players.attacker import runs_of
from arena.players.registry import Spec, build_attacker, build_stack, name_of, public_parameters
from arena.records.pieces import Piece
from arena.records.reports import GameRows, MarkRows, QueryRows
from arena.records.result import Result, join_games, join_marks
from arena.rules.geometry import quantise
from arena.rules.threat import Threat, parse_threat

Pair = tuple[Any, Any]
Model: TypeAlias = nn.Module | Classifier | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Data:
    """Splits for the players to prepare on: `train` and `calibration` for defenders, `resources` for
    attackers."""

    given: Mapping[str, Split]

    def __getattr__(self, name: str) -> Split:
        if name in ("train", "calibration", "resources") and name in self.given:
            return self.given[name]
        if name in ("train", "calibration"):
            raise ValueError(f"this defender prepares itself on data: pass {name}=(images, labels)")
        raise AttributeError(name)


@own_modes()
@computing_threads(1)
def evaluate(
    classifier: Model,
    defender: Spec | Sequence[Spec] = "none",
    *,
    images: Any,
    labels: Any,
    train: Pair | None = None,
    calibration: Pair | None = None,
    seed: int = 0,
    device: str = "auto",
    batch: int | None = None,
    cost: bool = True,
) -> Utility:
    """What a defended classifier is worth on clean images: accuracy, calibration, agreement and cost.

    Args:
        classifier: images [n,C,H,W] float32 in [0,1] -> logits [n,K]; undefended, the reference.
        defender: an instance, a class, a name, or a table with a name and parameters; several make a stack,
            outermost first.
        images, labels: [n,C,H,W] in [0,1] and [n], tensors or arrays.
        train, calibration: (images, labels) for defenders that prepare themselves.
        seed: of the defenders' draws.
        batch: rows per forward pass; None for the most that fit (`classifiers.devices.largest_batch`).
        cost: whether time and memory are measured, too.

    Raises:
        ValueError: if classifier, defender, images and labels do not fit together; the sentence says what is
            wrong.
    """
    where = resolve_device(device)
    _counts(batch=1 if batch is None else batch)
    split = read_split(images, labels)
    base = _wrapped(classifier, split.take(slice(0, 1)), split.labels, where, batch)
    stack = prepare(base, build_stack(defender), _data(train=train, calibration=calibration))
    return Evaluation(base, split, seed=seed).of(stack, cost=cost)


@own_modes()
@computing_threads(1)
def play(
    attacker: Spec,
    defender: Spec | Sequence[Spec] = "none",
    *,
    classifier: Model,
    images: Any,
    labels: Any,
    threat: Threat | Mapping[str, Any],
    targets: Any = None,
    train: Pair | None = None,
    calibration: Pair | None = None,
    resources: Pair | None = None,
    at: Sequence[int] = (),
    votes: int = 25,
    seed: int = 0,
    shard: int = 250,
    device: str = "auto",
    batch: int | None = None,
    keep_rows: bool = False,
) -> Result:
    """Play one game on every image and return the result.

    Args:
        attacker, defender: instances, classes, names, or tables with a name and parameters; several
            defenders make a stack, outermost first.
        classifier: images [n,C,H,W] float32 in [0,1] -> logits [n,K].
        images, labels: [G,C,H,W] in [0,1] and [G], tensors or arrays.
        threat: the rules.
        targets: [G] target labels; None: drawn by the threat's rule.
        train, calibration: (images, labels) for defenders that prepare themselves.
        resources: (images, labels) that the threat's resources are drawn from.
        at: query counts to report verdicts at, besides 0 and the budget. An attacker whose first queries are
            not as good as a run with a smaller budget (`Needs.prefix`) plays once for each of them.
        votes: fresh answers per vote of a random defender.
        shard: how many games are played side by side.
        keep_rows: keep every charged query in `Result.rows`, as memory allows.

    Raises:
        ValueError: if agents, images, labels or threat do not fit together; the sentence says what is wrong.
    """
    where = resolve_device(device)
    _counts(votes=votes, shard=shard, batch=1 if batch is None else batch)
    player = build_attacker(attacker)
    rules = _rules(player, threat, at)
    defenders = build_stack(defender)
    if (unmet := player.needs.unmet_by(defenders)) is not None:
        raise ValueError(f"attacker {name_of(player)} cannot play this defense: {unmet}")
    x = read_images(images).to(where)
    y = read_labels(labels, len(x)).to(where)
    base = _wrapped(classifier, x, y, where, batch)
    if (rules.resources.images or rules.resources.starts) and resources is None:
        raise ValueError("the threat's resources grant the attacker images: pass resources=(images, labels)")
    data = _data(train=train, calibration=calibration, resources=resources)
    stack = prepare(base, defenders, data)
    if player.needs.knowledge == "weights":
        stack.base.require_gradients()
    key = torch.arange(len(x), device=where)
    goal = draw_targets(rules, y, key, base.classes, seed)
    whole = Openings(x, y, key, goal if targets is None else _targets(targets, y, rules, base.classes))
    own, runs = ResourcePool(data.given.get("resources"), base), runs_of(player, rules, [int(c) for c in at])
    return _played(player, stack, whole, runs, own, votes=votes, shard=shard, seed=seed, keep_rows=keep_rows)


def _played(
    player: Attacker,
    stack: Stack,
    whole: Openings,
    runs: list[tuple[Threat, tuple[int, ...]]],
    own: ResourcePool,
    *,
    votes: int,
    shard: int,
    seed: int,
    keep_rows: bool,
) -> Result:
    """The games of all runs, shard by shard; `own` holds the attacker's own images.

    The result is that of the last run, which has the largest budget, with the verdicts of all.
    """
    results: list[Result] = []
    for threat, at in runs:
        tape = _Tape(keep_rows)
        for first in range(0, len(whole), shard):
            openings = whole[first : first + shard]
            job = Job(
                stack=stack,
                openings=openings,
                threat=threat,
                defender_seed=seed_of("defender", seed, 0),
                at=at,
                votes=votes,
                attacker=player,
                attacker_seed=seed_of("attacker", seed, 0),
                resources=draw_resources(threat, own, openings, seed),
                defense=public_parameters(stack.defenders),
                level="queries" if keep_rows else "games",
            )
            play_shard(job, tape)
            tape.originals.append(quantise(openings.x0, threat.quantisation).cpu().numpy())
        results.append(tape.result(threat))
    marks = {at: rows for result in results for at, rows in result.marks.items()}
    return replace(results[-1], marks=dict(sorted(marks.items())), prefix=player.needs.prefix)


def _wrapped(classifier: Model, x: Tensor, y: Tensor, device: torch.device, batch: int | None) -> Classifier:
    base = Classifier.of(classifier, sample=x[:1], device=device)
    if not isinstance(classifier, Classifier):
        for remark in base.remarks:
            warnings.warn(remark, stacklevel=5)  # where `play` was called
    base = sized(base, batch)
    if int(y.max()) >= base.classes:
        raise ValueError(f"labels go up to {int(y.max())}; the classifier answers {base.classes} classes")
    return base


def _data(**given: Pair | None) -> Data:
    return Data({name: read_split(*pair, name) for name, pair in given.items() if pair is not None})


def _counts(**counts: Any) -> None:
    for name, count in counts.items():
        if not (_is_whole(count) and count >= 1):
            raise ValueError(f"{name} must be a whole number, at least 1; found {count!r}")


def _is_whole(count: Any) -> bool:
    return isinstance(count, int | np.integer) and not isinstance(count, bool)


def _rules(player: Attacker, threat: Threat | Mapping[str, Any], at: Sequence[int]) -> Threat:
    """The threat, which the attacker can play, and in whose budget the counts to report lie."""
    rules = parse_threat(threat)
    if (unmet := player.needs.unmet(rules)) is not None:
        raise ValueError(f"attacker {name_of(player)} cannot play this threat: {unmet}")
    for count in at:
        if not (_is_whole(count) and 1 <= count <= rules.budget):
            raise ValueError(f"at must be whole numbers from 1 to the budget {rules.budget}; found {count!r}")
    return rules


def _targets(targets: Any, y: Tensor, rules: Threat, classes: int) -> Tensor:
    """The caller's own target labels, checked."""
    if not rules.targeted:
        raise ValueError(f'targets were given, but the goal is "{rules.goal}"')
    goal = read_labels(targets, len(y), "targets").to(y.device)
    if int(goal.max()) >= classes or bool((goal == y).any()):
        raise ValueError(f"targets must be from 0 to {classes - 1} and differ from the images' labels")
    return goal


class _Tape:
    """Collects a match that is played shard by shard, with games counted over the match."""

    def __init__(self, keep_rows: bool) -> None:
        self.keep_rows = keep_rows
        self.originals: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self.games: list[GameRows] = []
        self.query_rows: list[QueryRows] = []
        self.mark_rows: list[MarkRows] = []
        self._first = 0

    def record(self, piece: Piece) -> None:
        first = self._first
        self.query_rows += [replace(rows, game=rows.game + first) for rows in piece.queries]
        self.mark_rows += [replace(rows, game=rows.game + first) for rows in piece.marks]
        if piece.games is not None:
            self.games.append(piece.games)
            self._first += len(piece.games)

    def result(self, threat: Threat) -> Result:
        games = join_games(self.games)
        by_count: dict[int, list[MarkRows]] = {}
        for rows in self.mark_rows:
            by_count.setdefault(rows.at, []).append(rows)
        marks = {at: join_marks(parts, len(games)) for at, parts in sorted(by_count.items())}
        return Result(threat, np.concatenate(self.originals), games, marks, self.query_rows)
