"""Matches, or a defender's utility, from Python in one call, no file needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from arena.classifiers.devices import resolve_device
from arena.classifiers.threads import computing_threads
from arena.datasets.own_arrays import read_split
from arena.evaluation.benign.plan import read_traffic
from arena.evaluation.benign.playing import BenignTraffic
from arena.evaluation.clean_images import Evaluation
from arena.evaluation.clean_utility import Utility
from arena.game.stack import prepare
from arena.modes import own_modes
from arena.notebook.calls import new_call, run_info
from arena.notebook.entrants import one_attacker, one_stack, several
from arena.notebook.fixtures import Entrant, fixtures
from arena.notebook.ground import Ground, Model, Pair, check_counts, data_of, ground, wrapped
from arena.notebook.playing import play_fixtures
from arena.notebook.result import Result
from arena.notebook.results import Results
from arena.notebook.warning import warn_caller
from arena.players.registry import Spec, build_stack
from arena.rules.outcome import BROKEN
from arena.rules.threat import Threat


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
    benign: int | Mapping[str, Any] = 0,
) -> Utility:
    """What a defended classifier is worth on clean images: accuracy, calibration, agreement and cost; and
    what it takes from clients that attack nobody.

    Args:
        classifier: images [n,C,H,W] float32 in [0,1] -> logits [n,K]; undefended, the reference.
        defender: an instance, a class, a name, or a table with a name and parameters; several make a stack,
            outermost first.
        images, labels: [n,C,H,W] in [0,1] and [n], tensors or arrays.
        train, calibration: (images, labels) for defenders that prepare themselves.
        seed: of the defenders' draws.
        batch: rows per forward pass; None for the most that fit (`classifiers.devices.largest_batch`).
        cost: whether time and memory are measured, too.
        benign: how many benign clients of each kind are played, or a table as a scenario's `benign`; what
            they lose stands in `Utility.benign`.

    Raises:
        ValueError: if classifier, defender, images and labels do not fit together; the sentence says what is
            wrong.
    """
    where = resolve_device(device)
    check_counts(batch=1 if batch is None else batch)
    split = read_split(images, labels)
    base = wrapped(classifier, split.take(slice(0, 1)), split.labels, where, batch)
    stack = prepare(base, build_stack(defender), data_of(train=train, calibration=calibration))
    utility = Evaluation(base, split, seed=seed).of(stack, cost=cost)
    traffic = read_traffic(benign)
    if not traffic.sessions:
        return utility
    losses = BenignTraffic(base, split, traffic.within(split), seed=seed).of(stack, delay=cost)
    return replace(utility, benign=tuple(losses))


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
    surrogates: Sequence[Model] = (),
    at: Sequence[int] = (),
    votes: int = 25,
    seed: int = 0,
    shard: int = 250,
    device: str = "auto",
    batch: int | None = None,
    keep_rows: bool = False,
    margin_base: bool = False,
    log: str | Path | None = None,
) -> Result:
    """Play one game on every image and return the result.

    Args:
        attacker, defender: instances, classes, names, or tables with a name and parameters; a list of
            defenders is one stack, outermost first.
        classifier: images [n,C,H,W] float32 in [0,1] -> logits [n,K].
        images, labels: [G,C,H,W] in [0,1] and [G], tensors or arrays.
        threat: the rules.
        targets: [G] target labels; None: drawn by the threat's rule.
        train, calibration: (images, labels) for defenders that prepare themselves.
        resources: (images, labels) that the threat's resources are drawn from.
        surrogates: reference networks for attackers that need some, as `classifier`; copies are granted.
        at: query counts to report verdicts at, besides 0 and the budget. An attacker whose first queries are
            not as good as a run with a smaller budget (`Needs.prefix`) plays once for each of them.
        votes: fresh answers per vote of a random defender.
        shard: how many games are played side by side.
        keep_rows: keep every charged query in `Result.rows`, as memory allows.
        margin_base: keep beside each query's margin that of the hardened classifier without the rest of the
            defender: a monitor, which costs nothing in the game. It needs `keep_rows` or a `log`.
        log: the path or URL of a log that gets a new run, as `arena play` would write it.

    Raises:
        ValueError: if agents, images, labels or threat do not fit together; the sentence says what is wrong.
        LogError: if the log cannot be written.

    Warns:
        UserWarning: if the attacker's code failed in a game, or the classifier looks wrong.
    """
    sides = ([one_attacker(attacker)], [one_stack(defender)])
    data = data_of(train=train, calibration=calibration, resources=resources)
    how: dict[str, Any] = {"votes": votes, "seed": seed, "shard": shard}
    how |= {"surrogates": surrogates, "margin_base": margin_base}
    on = ground(classifier, images, labels, data, device, batch, **how)
    return _played(on, *sides, threat=threat, at=at, targets=targets, log=log, keep_rows=keep_rows)[0]


@own_modes()
@computing_threads(1)
def play_all(
    attackers: Sequence[Spec] | Mapping[str, Spec],
    defenders: Sequence[Spec | Sequence[Spec]] | Mapping[str, Spec | Sequence[Spec]] = ("none",),
    *,
    classifier: Model,
    images: Any,
    labels: Any,
    threat: Threat | Mapping[str, Any],
    targets: Any = None,
    train: Pair | None = None,
    calibration: Pair | None = None,
    resources: Pair | None = None,
    surrogates: Sequence[Model] = (),
    at: Sequence[int] = (),
    votes: int = 25,
    seed: int = 0,
    shard: int = 250,
    device: str = "auto",
    batch: int | None = None,
    keep_rows: bool = False,
    margin_base: bool = False,
    log: str | Path | None = None,
) -> Results:
    """Play every attacker against every defender, on the same games, and return all results.

    Args:
        attackers, defenders: lists of what `play` takes, or tables {title: what `play` takes}. Each entry of
            `defenders` is a defense of its own; a list within it is a stack, outermost first.

    Other arguments and errors are those of `play`; a log gets one run with all matches.
    """
    sides = (several("attackers", attackers), several("defenders", defenders))
    data = data_of(train=train, calibration=calibration, resources=resources)
    how: dict[str, Any] = {"votes": votes, "seed": seed, "shard": shard}
    how |= {"surrogates": surrogates, "margin_base": margin_base}
    on = ground(classifier, images, labels, data, device, batch, **how)
    return Results(_played(on, *sides, threat=threat, at=at, targets=targets, log=log, keep_rows=keep_rows))


def _played(
    on: Ground,
    attackers: Sequence[Entrant],
    stacks: Sequence[Entrant],
    *,
    threat: Threat | Mapping[str, Any],
    at: Sequence[int],
    targets: Any,
    log: str | Path | None,
    keep_rows: bool,
) -> list[Result]:
    """Every attacker against every stack, attacker by attacker."""
    if on.margin_base and log is None and not keep_rows:
        raise ValueError("margin_base is kept beside each query: pass keep_rows=True, or a log")
    call = new_call()
    found = fixtures(on, attackers, stacks, threat, at, targets, call)
    title = f"{_titles(attackers)} against {_titles(stacks)}"
    run = run_info(call, title, found, on)
    if log is None:
        records = play_fixtures(found, on, run, None, keep_rows)
    else:
        from arena.notebook.keeping import kept  # only here: a log brings its libraries

        with kept(log, run, keep_rows) as book:
            records = play_fixtures(found, on, run, book, keep_rows)
    results = [Result(**vars(record)) for record in records]
    for result in results:
        _warn_of_failure(result)
    return results


def _titles(entrants: Sequence[Entrant]) -> str:
    return ", ".join(entrant.title for entrant in entrants)


def _warn_of_failure(result: Result) -> None:
    """Warn, at the caller's line, where the attacker's code did not play its games to their end."""
    broken = {reason: n for reason, n in result.endings.items() if reason in BROKEN}
    if not broken:
        return
    counted = " and ".join(f"{n} in {reason}" for reason, n in broken.items())
    first = f"; the first: {result.first_error}" if result.first_error else ""
    warn_caller(f"{result.name}: of {int(result.played.sum())} games ended {counted}{first}")
