"""A stack of prepared defenders around a classifier."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.classifiers.served import asking
from arena.classifiers.threads import computing_threads
from arena.game.blame import DefenderError, blaming, class_of
from arena.game.preparing import Lent, MissingPart, OwnSplits, overrides
from arena.game.tensors import flaw_of, in_words, own
from arena.modes import own_modes
from arena.players.declared import flaw_of_declared
from arena.players.defender import Defender, Splits
from arena.players.registry import name_of
from arena.players.response import Response
from arena.progress import telling

Made = TypeVar("Made", Classifier, Defender)


@dataclass(frozen=True)
class Stack:
    """A stack of prepared defenders around a classifier.

    Attributes:
        base: the classifier after hardening.
        defenders: outermost first.
        hardened: for each defender the classifier that its `harden` made, None where that was the one it was
            given; (): nothing was hardened.
        unprepared: the defenders before they were fitted, (): they are those of `defenders`.
    """

    base: Classifier
    defenders: tuple[Defender, ...] = ()
    hardened: tuple[Classifier | None, ...] = ()
    unprepared: tuple[Defender, ...] = ()

    @property
    def random(self) -> bool:
        return any(d.random for d in self.defenders)

    @property
    def answers_are_facts(self) -> bool:
        """Whether the same image always gets the same answer."""
        return not (self.random or self.stateful)

    @property
    def stateful(self) -> bool:
        return any(d.memory != "none" for d in self.defenders)

    @property
    def undefended(self) -> bool:
        """Whether it answers as the classifier alone does: nothing was hardened, and no defender acts."""
        return not any(d.acts for d in self.defenders) and not any(self.hardened)


@own_modes()
@computing_threads(1)
@asking("preparing")
def prepare(classifier: Classifier, defenders: Sequence[Defender], splits: Splits) -> Stack:
    """Harden `classifier`, then fit the defenders to it, the innermost (last) first in both.

    Each gets copies: of the train and calibration parts of `splits`, and of the classifier, which is held
    twice meanwhile. What they compute themselves runs in one thread: training in more would give other bits.
    What they do is told (`arena.progress`).

    Raises:
        DefenderError: if one cannot defend such images, fails, returns something else than it must, or
            changed the classifier's weights.
        MissingPart: if one asks for a part that `splits` does not have.
    """
    for defender in defenders:
        with blaming(defender, "unsuited"):
            why: object = defender.unsuited(classifier.shape)
        if why is not None and not isinstance(why, str):
            raise DefenderError(
                f"{class_of(defender)}.unsuited must return a sentence, or None; found {type(why).__name__}"
            )
        if why is not None:
            raise DefenderError(why)
    lent, hardened = Lent(classifier), list[Classifier | None]()
    for defender in reversed(defenders):
        with telling(f"hardening with {name_of(defender)}"):
            hardened.append(_hardened(defender, lent, splits))
        lent = lent if hardened[-1] is None else Lent(hardened[-1])
    fitted: list[Defender] = []
    for defender in reversed(defenders):
        with telling(f"fitting {name_of(defender)}"):
            fitted.append(_fitted(defender, lent, splits))
    return Stack(lent.own, tuple(reversed(fitted)), tuple(reversed(hardened)), tuple(defenders))


def _hardened(defender: Defender, lent: Lent, splits: Splits) -> Classifier | None:
    """What `defender` makes of a classifier; None where that is the one that it was given."""
    if not overrides(defender, "harden"):
        return None
    made = _made(defender, "harden", Classifier, lent, splits)
    if made.random and not (defender.random or lent.own.random):
        raise DefenderError(
            f"{class_of(defender)}.harden gives a classifier whose layers draw, so that it must declare "
            f"random = True"
        )
    return None if made is lent.copy else made


def _fitted(defender: Defender, lent: Lent, splits: Splits) -> Defender:
    if not overrides(defender, "fit"):
        return defender
    fitted = _made(defender, "fit", Defender, lent, splits)
    if (flaw := flaw_of_declared(fitted)) is not None:
        raise DefenderError(f"{class_of(defender)}, as it was fitted: {flaw}")
    return fitted


def _made(defender: Defender, method: str, kind: type[Made], lent: Lent, splits: Splits) -> Made:
    """What a defender's own `harden` or `fit` gives back, on copies."""
    given, parts = lent.lend(), OwnSplits.of(splits)
    with blaming(defender, method, _callers(parts)):
        made: object = getattr(defender, method)(given, parts)
    who = f"{class_of(defender)}.{method}"
    if not isinstance(made, kind):
        raise DefenderError(f"{who} must return a {kind.__name__}; found {type(made).__name__}")
    if lent.changed:
        raise DefenderError(
            f"{who} changed the weights of the classifier that it was given; it must work on a copy of them, "
            f"and harden return another (Classifier.with_tensors)"
        )
    return made


def _callers(parts: OwnSplits) -> Callable[[BaseException], bool]:
    """Tells what is the caller's fault: that a part was asked for which is not among `parts`."""
    lacking = bool(parts.missing)
    return lambda error: lacking and isinstance(error, MissingPart)


def facts_of(defender: Defender) -> dict[str, Any]:
    """What a defender found as it was fitted, by name; JSON values.

    Raises:
        DefenderError: if it fails to say it, or says it in other values.
    """
    with blaming(defender, "facts"):
        found: dict[str, Any] = json.loads(json.dumps(dict(defender.facts())))
        return found


def own_response(defender: Defender, response: object, n: int, base: Classifier) -> Response:
    """A copy of an answer to `n` rows, in memory that the defender does not hold.

    Raises:
        DefenderError: if its form is none of an answer, by what can be told without looking at the device.
    """
    who = class_of(defender)
    if not isinstance(response, Response) or type(response) is not Response:
        raise DefenderError(f"defender {who} must answer a Response; found {type(response).__name__}")
    held, flags = vars(response), {}  # a field may have been taken away
    for name in Response.FLAGS:
        if (flag := held.get(f"_{name}")) is not None:
            flags[name] = _own(who, name, flag, torch.bool, (n,), base)
    scores = held.get("scores")
    return Response(_own(who, "scores", scores, torch.float32, (n, base.classes), base), **flags)


def _own(
    who: str, what: str, value: object, dtype: torch.dtype, shape: tuple[int, ...], base: Classifier
) -> Tensor:
    flaw = flaw_of(value)
    if flaw or not isinstance(value, Tensor):
        raise DefenderError(f"defender {who}: {what} must be a plain tensor; found {flaw}")
    if value.dtype != dtype or value.shape != shape or value.device != base.device:
        raise DefenderError(
            f"defender {who}: {what} must be {dtype} {list(shape)} on {base.device}; found {in_words(value)} "
            f"on {value.device}"
        )
    return own(value)
