"""What is asked of a defender."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.conformance.defender_trials import (
    AskedDefender,
    DefenderSubject,
    LogitsOf,
    alike,
    answering_for,
    differs,
    flaw_of_response,
    number_of,
    rows_of,
)
from arena.conformance.examples import example
from arena.conformance.memory_checks import keeps_to_its_memory, leaves_no_trace, starts_empty
from arena.conformance.parameters import check_parameters
from arena.conformance.results import Check, CheckResult, ConformanceError, raise_first, results_of
from arena.conformance.stand_in_agents import NoisyInput, Several
from arena.conformance.surroundings import AMBIENT
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Defender, Response, Rows
from arena.players.declared import flaw_of_declared
from arena.players.registry import name_of
from arena.players.response import pick
from arena.rules.outcome import labels_of

_ROWS = 7


def defender_checks() -> tuple[Check[DefenderSubject], ...]:
    """What is asked of a defender, in the order in which it is tried."""
    return (
        Check("parameters", "a frozen dataclass; parameters can be pickled and written as JSON", _parameters),
        Check("declares", "declares whether it is random and what memory it keeps", _declares),
        Check("fit", "hardens and fits on a little data; leaves it, classifier and itself as they are", _fit),
        Check("form", "answers with scores [n,K] float32 and flags [n] bool on the device", _form),
        Check("passes-on", "passes on finite images [n,C,H,W] float32, each with its row", _passes_on),
        Check("finite", "answers finite logits with finite scores, tiny, huge or all equal", _finite),
        Check("nan", "lets logits that give no label pass by, and the other rows do not notice", _nan),
        Check("untouched", "leaves the images, the rows and the scores it was given as they are", _untouched),
        Check("reproducible", "prepares itself and answers the same again from the same seed", _reproducible),
        Check("state", "is written and read back as it was prepared", _state),
        Check("draws", "draws by the row's key if it is random, and not at all if it is not", _draws),
        Check("generators", "neither depends on nor disturbs the global random generators", _generators),
        Check("batch", "answers a row alone as in a batch, in any order, bit for bit", _batch),
        Check("trace", "keeps nothing of an answer that the Referee does not commit", leaves_no_trace),
        Check(
            "memory", "is influenced by no other rows than its declared memory allows", keeps_to_its_memory
        ),
        Check(
            "new-client",
            "starts empty memories, of any size, and leaves the others as they are",
            starts_empty,
        ),
        Check("no-grad", "answers the same where gradients are off", _no_grad),
        Check("stack", "answers above, below and beside other defenders", _stack),
        Check("detector", "shows an insider finite detector scores [n], from 0 on where it flags", _detector),
    )


def defender_results(defender: Defender, *, device: str = "cpu") -> Iterator[CheckResult]:
    """Run all checks on `defender`, each as it is asked for; arguments as for `DefenderSubject`."""
    return results_of(defender_checks(), DefenderSubject(defender, device=device))


def check_defender(defender: Defender | type[Defender], *, device: str = "cpu") -> None:
    """Run all checks on `defender`, or on one of this class; other arguments as for `DefenderSubject`.

    Raises:
        ConformanceError: at the first check that fails.
    """
    own = cast(Defender, example("defender", defender))
    raise_first(defender_results(own, device=device), name_of(own))


def _parameters(subject: DefenderSubject) -> None:
    check_parameters(subject.defender)


def _declares(subject: DefenderSubject) -> None:
    defender = subject.defender
    if (flaw := flaw_of_declared(defender)) is not None:
        raise ConformanceError(flaw)
    remembers = type(defender).remember is not Defender.remember
    if remembers and defender.memory == "none":
        raise ConformanceError('it has a remember, which is never called, since its memory is "none"')
    if not remembers and defender.memory != "none":
        raise ConformanceError(f'its memory is "{defender.memory}", but it has no remember')


def _fit(subject: DefenderSubject) -> None:
    _reject(subject.flaw_of_fit)


# Answers


def _form(subject: DefenderSubject) -> None:
    _reject(subject.flaw_of_answers)


def _passes_on(subject: DefenderSubject) -> None:
    _reject(subject.flaw_of_passing)


def _reject(flaw: str | None) -> None:
    if flaw is not None:
        raise ConformanceError(flaw)


def _finite(subject: DefenderSubject) -> None:
    for number, place in enumerate(subject.worlds):
        for scale in (0.0, 1e-6, 1.0, 1e4):
            desk = subject.desk(number, network=_scaled(place.classifier, scale))
            response = desk.ask(subject.images(_ROWS, number), rows_of(range(_ROWS), 1, subject.device))
            if not bool((response.scores.isfinite().all(dim=1) | response.withheld).all()):
                raise ConformanceError(
                    f"it answered finite logits with scores that are not "
                    f"[logits times {scale:g}, {place.classes} classes]"
                )


def _scaled(classifier: Classifier, scale: float) -> LogitsOf:
    return lambda x, rows: classifier(x) * scale


def _nan(subject: DefenderSubject) -> None:
    number = min(1, len(subject.worlds) - 1)
    classifier = subject.worlds[number].classifier

    def network(x: Tensor, rows: Rows) -> Tensor:
        scores = classifier(x)
        all_nan, alike, one_nan, infinite = (
            rows.key == number_of(torch.tensor(place)) for place in (2, 3, 4, 5)
        )
        scores[all_nan] = torch.nan
        scores[alike] = 1.0
        scores[one_nan, -1] = torch.nan
        scores[infinite, -1] = torch.inf
        return scores

    x, rows = subject.images(_ROWS, number), rows_of(range(_ROWS), 1, subject.device)
    desk = subject.desk(number, network=network)
    response = desk.ask(x, rows)
    made_up = (labels_of(response.scores) >= 0) & ~response.withheld
    if bool(made_up[[2, 4]].any()):
        raise ConformanceError("it answered logits that are NaN with scores of its own making")
    if bool(made_up[3]):
        raise ConformanceError("it answered logits that are all equal, and so give no label, with a label")
    sound = torch.tensor([0, 1, 6])
    whole, again = (subject.desk(number, network=_scaled(classifier, 1.0)).ask(x, rows) for _ in range(2))
    if differs(whole, again) is not None:
        return  # not the NaN's doing
    if (found := differs(pick(response, sound), pick(whole, sound))) is not None:
        raise ConformanceError(f"logits that are NaN in one row change the answers to others: {found}")


def _untouched(subject: DefenderSubject) -> None:
    desk = subject.desk()
    for turn in (1, 2):
        x, rows = subject.images(_ROWS), rows_of(range(_ROWS), turn, subject.device)
        lent, own = (x, rows), (x.clone(), copy.deepcopy(rows))
        response = desk.ask(x, rows)
        kept = copy.deepcopy(response)
        desk.keep(x, rows, response)
        if not torch.equal(lent[0], own[0]):
            raise ConformanceError("it changed the images that it was given in place")
        if not alike(lent[1], own[1]):
            raise ConformanceError("it changed the rows that it was given in place")
        if differs(response, kept) is not None:
            raise ConformanceError("its remember changed the response in place")
    if any(differs(Response(a), Response(b)) is not None for a, b in desk.passed.scores):
        raise ConformanceError("it changed in place the scores that the rest of the stack answered")


# The same again


def _reproducible(subject: DefenderSubject) -> None:
    x, rows = subject.images(_ROWS), rows_of(range(_ROWS), 1, subject.device)
    one, other = (subject.desk().ask(x, rows) for _ in range(2))
    if (found := differs(one, other)) is not None:
        raise ConformanceError(f"it answers the same rows otherwise from the same seed: {found}")
    again = AskedDefender(*copy.deepcopy(subject.again)).ask(x, rows)
    if (found := differs(one, again)) is not None:
        raise ConformanceError(f"prepared again on the same data, it answers otherwise: {found}")


def _state(subject: DefenderSubject) -> None:
    for number in range(len(subject.worlds)):
        one, same = subject.desk(number), subject.desk(number)
        other = AskedDefender(*subject.read_back(number))
        told = [json.dumps(desk.defender.facts()) for desk in (one, other)]  # in which NaN equals NaN
        if told[0] != told[1]:
            raise ConformanceError(f"written and read back, its facts are {told[1]}, not {told[0]}")
        for turn in (1, 2):
            x, rows = subject.images(_ROWS, number), rows_of(range(_ROWS), turn, subject.device)
            expected = one.play(x, rows)
            if differs(expected, same.play(x, rows)) is not None:
                return  # not the writing's doing
            if (found := differs(expected, other.play(x, rows))) is not None:
                raise ConformanceError(f"written and read back, it answers otherwise: {found}")


def _draws(subject: DefenderSubject) -> str | None:
    x, rows = subject.images(_ROWS), rows_of(range(_ROWS), 1, subject.device)
    desk = subject.desk()
    if _varies(desk, x, [rows, rows]):
        return None  # not by the key alone, which is reported elsewhere
    first = desk.copy().ask(x, rows)
    by_seed = any(differs(first, _with_seed(desk, 100 + n).ask(x, rows)) is not None for n in range(8))
    if not subject.defender.random:
        if by_seed:
            raise ConformanceError("it declares random = False, but another seed gives other answers")
        return None
    by_turn = _varies(desk, x, [replace(rows, turn=rows.turn + n) for n in range(8)])
    by_draw = _varies(desk, x, [replace(rows, draw=n) for n in range(8)])
    if not by_turn and not by_seed and not by_draw:
        return "it declares random = True, but 8 draws for each of 7 images were answered alike"
    for found, what, key in (
        (by_turn, "turn", "rows.turn"),
        (by_seed, "seed", "rows.seed"),
        (by_draw, "repeat of a row", "rows.draw"),
    ):
        if not found:
            raise ConformanceError(
                f"another {what} gives the same draws: it must draw from rows.uniform, rows.normal or "
                f"rows.integers, which take {key} into account"
            )
    return None


def _varies(desk: AskedDefender, x: Tensor, tries: list[Rows]) -> bool:
    """Whether any of `tries` is answered otherwise than the first, each by a desk as it was."""
    first, *others = (desk.copy().ask(x, rows) for rows in tries)
    return any(differs(first, other) is not None for other in others)


def _with_seed(desk: AskedDefender, seed: int) -> AskedDefender:
    other = desk.copy()
    other.seed = seed
    return other


def _generators(subject: DefenderSubject) -> None:
    x, rows = subject.images(_ROWS), rows_of(range(_ROWS), 1, subject.device)
    one = subject.desk()
    expected = one.ask(x, rows)
    if differs(expected, AskedDefender(*copy.deepcopy(subject.again)).ask(x, rows)) is not None:
        return  # even where the generators stand alike, which is reported elsewhere
    other = AskedDefender(*subject.prepare(0, AMBIENT + 1), ambient=AMBIENT + 1)
    if (found := differs(expected, other.ask(x, rows))) is not None:
        raise ConformanceError(
            f"it depends on a global random generator instead of rows.uniform, rows.normal and "
            f"rows.integers: {found}"
        )
    if used := [*subject.used, *one.used]:
        raise ConformanceError(f"it disturbs the global random generator of {used[0]}")


def _batch(subject: DefenderSubject) -> None:
    for number in range(len(subject.worlds)):
        desk = subject.desk(number)
        x = subject.images(_ROWS, number)
        for turn in range(1, 4):
            desk.play(x.roll(turn, 0), rows_of(range(_ROWS), turn, subject.device))
        rows = rows_of(range(_ROWS), range(4, 4 + _ROWS), subject.device)
        whole = desk.copy().ask(x, rows)
        if differs(whole, desk.copy().ask(x, rows)) is not None:
            continue  # not the batch's doing
        for places in ([3, 0, 6, 5, 1, 4, 2], *([place] for place in range(_ROWS))):
            index = torch.tensor(places)
            answer = desk.copy().ask(x[index], _batch_of(rows, index))
            if (found := differs(pick(whole, index), answer)) is not None:
                how = "alone" if len(places) == 1 else "in another order"
                raise ConformanceError(f"it answers a row otherwise {how} than in a batch of 7: {found}")


def _batch_of(rows: Rows, index: Tensor) -> Rows:
    return replace(rows[index], place=torch.arange(len(index), device=rows.key.device))


# Surroundings


def _no_grad(subject: DefenderSubject) -> None:
    x, rows = subject.images(_ROWS), rows_of(range(_ROWS), 1, subject.device)
    desk = subject.desk()
    plain = desk.copy().ask(x, rows)
    if differs(plain, desk.copy().ask(x, rows)) is not None:
        return  # not the gradients' doing
    with torch.no_grad():
        quiet = desk.copy().ask(x, rows)
    if (found := differs(plain, quiet)) is not None:
        raise ConformanceError(f"it answers otherwise under torch.no_grad(): {found}")


def _stack(subject: DefenderSubject) -> None:
    subject.desk()
    mine, base = subject.prepared()
    x = subject.images(_ROWS)
    dark = x.clone()
    dark[:, 0, 0, 0] = 0  # so that Several passes on none for single answers
    layers: dict[str, tuple[Defender, ...]] = {
        "above a defender that adds noise": (mine, NoisyInput()),
        "below a defender that adds noise": (NoisyInput(), mine),
        "below a defender that asks several times, or not at all,": (Several(), mine),
        "below another of its kind": (mine, copy.deepcopy(mine)),
    }
    for where, defenders in layers.items():
        for images in (x, dark):
            stack = Stack(base, copy.deepcopy(defenders))
            with answering_for(mine, f"answering {where}"):
                oracle = StackOracle(stack, games=_ROWS)
                response = oracle.respond(images, rows_of(range(_ROWS), 1, subject.device))
                oracle.commit(torch.arange(_ROWS, device=images.device) % 2 == 0)
                oracle.respond(images, rows_of(range(_ROWS), 2, subject.device))
                oracle.commit(torch.zeros(_ROWS, dtype=torch.bool, device=images.device))
            flaw = flaw_of_response(response, _ROWS, base.classes, base.device)
            if flaw is not None:
                raise ConformanceError(f"{where} it fails: {flaw}")


def _detector(subject: DefenderSubject) -> str | None:
    if not subject.defender.has_detector():
        return "it has no detector"
    desk = subject.desk()
    x = subject.images(_ROWS)
    with answering_for(desk.defender, "detector"):
        scores: object = desk.defender.detector(x, desk.base)
    if not isinstance(scores, Tensor) or list(scores.shape) != [_ROWS] or not bool(scores.isfinite().all()):
        found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ConformanceError(f"detector must return finite scores [{_ROWS}]; found {found}")
    if subject.defender.memory != "none":
        return "whether it flags what its detector detects depends on what it remembers"
    response = desk.ask(x, rows_of(range(_ROWS), 1, subject.device))
    if bool(((scores >= 0) & ~response.flagged & ~response.withheld).any()):
        raise ConformanceError("it does not flag what its detector scores from 0 on")
    return None
