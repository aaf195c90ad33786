"""Our attacks beside foolbox's and the Adversarial Robustness Toolbox's: same images, same true queries.

    python3.11 -m venv VENV
    VENV/bin/python -m pip install -c constraints.txt -e ".[published]"
    OMP_NUM_THREADS=1 VENV/bin/python -m bench published [--world digits|mnist|mnist-cw] [--games G]
        [--plays P] [--at Q ...] [--only NAME ...] [--data DIR]

These are the decision-based ones; `python -m bench published --scores` has those that are told scores
(`bench.published_scores`).

Theirs play image by image against a `Meter`, which charges every row that they forward to its image and keeps
the nearest adversarial row as our Referee does; so both sides are read at the same number of true queries,
each with its own start, ours by the rules that the library follows where an attack knows several. foolbox in
batches would normalise HopSkipJump's estimate over the whole batch and share the Boundary Attack's draws.
With `--plays` each image is attacked so often, with other draws: a random walk's median over
400 images still scatters by some 2 % from one draw to the next. Time is processor time, of one thread.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.game.openings import Openings
from arena.game.shard import GameSetup, play_games, seat_games
from arena.game.stack import Stack
from arena.players import Attacker
from arena.players.registry import build_attacker, names
from arena.records.reports import GameRows, MemoryListener
from arena.rules.threat import Norm, Threat, parse_threat
from arena.statistics import bootstrap
from bench.replay import counted, forward
from bench.tables import between, table
from bench.worlds import MINIMUM, drawn_games, load_world

Floats = NDArray[np.float64]
LIMIT = 1.05
"""The upper end of the interval of ours over theirs is to stay below."""


class BudgetSpent(Exception):
    """An attack asks on after its last query."""


class Meter(nn.Module):
    """A network that counts: the rows forwarded for one image, and the nearest that was adversarial.

    Args:
        network: images [n,C,H,W] to logits [n,K].
        x0: [1,C,H,W] in [0,1], the image under attack.
        y: its label.
        budget: rows answered; a call that goes beyond raises `BudgetSpent`.
        norm: the norm of distances.

    Attributes:
        queries: rows charged.
        distance: for each charged row its distance where it is adversarial, else inf, by calls.
        network_seconds, own_seconds: processor time of the network, and of this class beside it.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], x0: Tensor, y: int, budget: int, norm: Norm = "l2"
    ) -> None:
        super().__init__()
        self.network, self.x0, self.y, self.budget = network, x0, y, budget
        self.order = 2 if norm == "l2" else torch.inf
        self.queries = 0
        self.distance: list[Tensor] = []
        self.network_seconds = self.own_seconds = 0.0

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        began = time.process_time()
        granted = x[: self.budget - self.queries].float().clamp(0, 1)  # on NumPy 2 ART blends in doubles
        if not len(granted):
            raise BudgetSpent
        asked = time.process_time()
        logits = self.network(granted)
        answered = time.process_time()
        far = torch.linalg.vector_norm(
            (granted.double() - self.x0.double()).flatten(1), ord=self.order, dim=1
        )
        self.distance.append(far.where(logits.argmax(dim=1) != self.y, torch.inf))
        self.queries += len(granted)
        self.network_seconds += answered - asked
        self.own_seconds += asked - began + time.process_time() - answered
        if len(granted) < len(x):
            raise BudgetSpent
        return logits

    def nearest(self, at: int) -> float:
        """The distance of the nearest adversarial row among the first `at`; inf without one."""
        rows = torch.cat(self.distance)[:at] if self.distance else torch.empty(0)
        return float(rows.min()) if len(rows) else np.inf


@dataclass
class Side:
    """What one implementation came to over G games.

    Attributes:
        found: [G] by query count, inf where nothing was found: distances (`published_scores`: the number of
            the first hit).
        seconds, forward_seconds: processor time, and the part of it in the network.
        queries: rows charged.
        ends: how often games ended how.
    """

    found: dict[int, Floats] = field(default_factory=dict)
    seconds: float = 0.0
    forward_seconds: float = 0.0
    queries: int = 0
    ends: Counter[str] = field(default_factory=Counter)


Attack = Callable[[nn.Module, Tensor, Tensor, int], object]
"""Attacks an image [1,C,H,W] in [0,1] with label [1] through a network, by a nominal number of queries."""


def foolbox(name: str, **options: Any) -> Attack:
    """An attack of foolbox 3."""

    def attack(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> object:
        import foolbox

        model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1), device="cpu")
        return getattr(foolbox.attacks, name)(**options)(model, x, y, epsilons=None)

    return attack


def toolbox(name: str, budget_option: str = "", **options: Any) -> Attack:
    """An attack of the Adversarial Robustness Toolbox; `budget_option` takes the budget, where it has one."""

    def attack(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> object:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        if not hasattr(np, "mat"):  # its GeoDA still asks for what NumPy 2 took out
            setattr(np, "mat", np.asmatrix)  # noqa: B010
        classifier = PyTorchClassifier(
            network.eval(),
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            10,
            clip_values=(0, 1),
            device_type="cpu",
        )
        given = {**options, **({budget_option: budget} if budget_option else {})}
        return getattr(evasion, name)(classifier, verbose=False, **given).generate(x.numpy(), y.numpy())

    return attack


@dataclass(frozen=True)
class Pair:
    """An attack of ours and the published implementation that it is compared with."""

    ours: Mapping[str, Any]
    library: str
    theirs: Attack

    @property
    def name(self) -> str:
        return f"{self.ours['name']}/{self.library}"


ART_RULE = {"name": "hop-skip-jump", "delta_rule": "art"}
PAIRS = (
    Pair({"name": "hop-skip-jump"}, "foolbox", foolbox("HopSkipJumpAttack")),
    Pair(ART_RULE, "art", toolbox("HopSkipJump")),
    Pair({"name": "boundary", "rules": "foolbox"}, "foolbox", foolbox("BoundaryAttack")),
    Pair({"name": "boundary", "rules": "art"}, "art", toolbox("BoundaryAttack", targeted=False)),
    Pair({"name": "geoda"}, "art", toolbox("GeoDA", "max_iter")),
    Pair({"name": "sign-opt"}, "art", toolbox("SignOPTAttack", "query_limit", targeted=False)),
)


def play_ours(
    spec: Mapping[str, Any], classifier: Classifier, x: Tensor, y: Tensor, at: Sequence[int]
) -> Side:
    """Our side: all games in step; the network's share is that of the same batches replayed."""
    side, player = Side(), build_attacker(spec)
    for counts in [at] if player.needs.prefix else [[q] for q in at]:
        threat = parse_threat({**MINIMUM, "budget": max(counts)})
        with counted(classifier) as sizes:
            began = time.process_time()
            ended, marks = _played(player, classifier, Openings(x, y, torch.arange(len(x))), threat, counts)
            side.seconds += time.process_time() - began
        side.forward_seconds += forward(classifier, x, sizes, time.process_time)
        side.queries += int(ended.queries.sum())
        side.found |= marks
        side.ends.update(ended.reason)
    return side


def _played(
    player: Attacker, classifier: Classifier, deal: Openings, threat: Threat, at: Sequence[int]
) -> tuple[GameRows, dict[int, Floats]]:
    """How the games ended, and their distances by query count."""
    tape = MemoryListener()
    setup = GameSetup(Stack(classifier), deal, threat, defender_seed=0, at=at)
    referee = seat_games(setup, tape)
    ended = play_games(player, referee, referee.seat())
    marks = {q: np.full(len(deal), np.inf) for q in at}
    for rows in tape.mark_rows:
        if rows.at in marks:
            marks[rows.at][rows.game] = np.nan_to_num(rows.l2, nan=np.inf)
    return ended, marks


def play_theirs(
    attack: Attack, network: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, at: Sequence[int], prefix: bool
) -> Side:
    """Their side: image by image."""
    side = Side()
    for counts in [at] if prefix else [[q] for q in at]:
        found: dict[int, list[float]] = {q: [] for q in counts}
        for place in range(len(x)):
            meter = Meter(network, x[place : place + 1], int(y[place]), max(counts))
            torch.manual_seed(place)
            np.random.seed(place)  # noqa: NPY002  # what they draw from
            began = time.process_time()
            side.ends[_end(attack, meter, x[place : place + 1], y[place : place + 1])] += 1
            side.seconds += time.process_time() - began - meter.own_seconds
            side.forward_seconds += meter.network_seconds
            side.queries += meter.queries
            for q in counts:
                found[q].append(meter.nearest(q))
        side.found |= {q: np.asarray(values) for q, values in found.items()}
    return side


def _end(attack: Attack, meter: Meter, x: Tensor, y: Tensor) -> str:
    """Lets an attack play; how it ended."""
    try:
        attack(meter, x, y, meter.budget)
    except BudgetSpent:
        return "budget"
    except Exception as error:  # of their own making: an assertion that failed, a start not found
        return f"{type(error).__name__}: {error}"[:60]
    return "ended"


def paired_ratio(ours: Floats, theirs: Floats) -> tuple[float, float, float]:
    """Ours over theirs in the median distance, with the 95 % percentile interval over images.

    Distances [P,G] of P plays of G images: images are resampled, each with all of its plays on both sides. A
    median may be infinite (no start for most images): over a finite one that is inf, a finite one over it 0,
    and neither is better than the other.
    """

    def medians(found: Floats, place: NDArray[np.int64], axis: int) -> Floats:
        drawn = found[:, place]  # [P,...] as `place`
        middle: Floats = np.median(np.concatenate(drawn, axis=axis), axis=axis)
        return middle

    def ratio(place: Floats, axis: int) -> Floats:
        drawn = place.astype(np.int64)
        above, below = medians(ours, drawn, axis), medians(theirs, drawn, axis)
        with np.errstate(invalid="ignore"):
            over: Floats = np.where(np.isinf(above) & np.isinf(below), 1.0, above / below)
        return over

    every = np.arange(ours.shape[1], dtype=np.float64)
    return (float(ratio(every, 0)), *bootstrap(every, ratio, resamples=4000))


def distances(name: str, ours: Side, theirs: Side, plays: int = 1) -> list[dict[str, object]]:
    """The table's rows of a pair, one for each query count; games are the plays, each of all images."""
    rows: list[dict[str, object]] = []
    for q in sorted(ours.found):
        a, b = ours.found[q], theirs.found[q]
        ratio = paired_ratio(a.reshape(plays, -1), b.reshape(plays, -1))
        rows.append(
            {
                "pair": name,
                "queries": q,
                "ours": float(np.median(a)),
                "theirs": float(np.median(b)),
                "ours/theirs": between(*ratio),
                "": "" if ratio[2] <= LIMIT else "above",
                "none found, ours": int(np.isinf(a).sum()),
                "theirs ": int(np.isinf(b).sum()),
            }
        )
    return rows


def costs(name: str, ours: Side, theirs: Side) -> dict[str, object]:
    """How long a query took, microseconds of processor time, and how many times faster ours was."""

    def per_query(side: Side) -> tuple[float, float]:
        return side.seconds / side.queries * 1e6, (side.seconds - side.forward_seconds) / side.queries * 1e6

    (whole, beside), (their_whole, their_beside) = per_query(ours), per_query(theirs)
    return {
        "pair": name,
        "us/query, ours": whole,
        "theirs": their_whole,
        "times faster": their_whole / whole,
        "beside the network, ours": beside,
        "theirs ": their_beside,
        "times faster ": their_beside / beside,
        "s/image, ours": ours.seconds / sum(ours.ends.values()),
        "theirs  ": theirs.seconds / sum(theirs.ends.values()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    told = list(sys.argv[1:] if arguments is None else arguments)
    if told[:1] == ["--scores"]:
        from bench import published_scores

        published_scores.main(told[1:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=("digits", "mnist", "mnist-cw"), default="digits")
    parser.add_argument("--games", type=int, default=400)
    parser.add_argument("--plays", type=int, default=1)
    parser.add_argument("--at", type=int, nargs="+", default=[1000, 2000])
    parser.add_argument("--only", nargs="+", default=[pair.name for pair in PAIRS])
    shared = Path(os.environ.get("ARENA_SHARED", "../shared")) / "data"
    parser.add_argument("--data", type=Path, default=shared)
    given = parser.parse_args(told)
    if missing := [module for module in ("art", "foolbox") if find_spec(module) is None]:
        parser.error(f"{' and '.join(missing)} cannot be imported: install the extra `published`, as above")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    world = load_world(given.world, given.games, [given.data, given.data / "weights"])
    images, labels = drawn_games(world)
    x, y = images.repeat(given.plays, 1, 1, 1), labels.repeat(given.plays)
    far: list[dict[str, object]] = []
    cost: list[dict[str, object]] = []
    for pair in PAIRS:
        if pair.name not in given.only:
            continue
        if pair.ours["name"] not in names("attacker"):
            print(f"{pair.name} is left out: there is no attacker {pair.ours['name']}", flush=True)
            continue
        prefix = build_attacker(pair.ours).needs.prefix
        ours = play_ours(pair.ours, world.classifier, x, y, given.at)
        with tempfile.TemporaryDirectory() as folder, chdir(folder):  # ART's GeoDA leaves a file behind
            theirs = play_theirs(pair.theirs, world.classifier, x, y, given.at, prefix)
        found = distances(pair.name, ours, theirs, given.plays)
        print(f"{table(found)}\nours ended {dict(ours.ends)}, theirs {dict(theirs.ends)}\n", flush=True)
        far += found
        cost.append(costs(pair.name, ours, theirs))
    over = f"{len(images)} images" + (f", {given.plays} plays of each" if given.plays > 1 else "")
    print(f"\n{given.world}, {over}, medians of l2 distances\n{table(far)}\n\n{table(cost)}")


if __name__ == "__main__":
    main()
