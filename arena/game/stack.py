"""A stack of prepared defenders around a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.classifiers.served import asking
from arena.classifiers.threads import computing_threads
from arena.game.preparing import Lent, OwnSplits, overrides
from arena.modes import own_modes
from arena.players.defender import Defender, Splits
from arena.players.registry import name_of
from arena.players.response import Response
from arena.progress import telling


class DefenderError(TypeError):
    """A defender prepared itself or answered in a form that no answer has: one sentence."""


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
        DefenderError: if one returns something else than it must, or changed the classifier's weights.
    """
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
    given = lent.lend()
    made = defender.harden(given, OwnSplits.of(splits))
    if not isinstance(made, Classifier):
        found = type(made).__name__
        raise DefenderError(f"{type(defender).__name__}.harden must return a Classifier; found {found}")
    _check_lent(defender, "harden", lent)
    return None if made is given else made


def _fitted(defender: Defender, lent: Lent, splits: Splits) -> Defender:
    if not overrides(defender, "fit"):
        return defender
    fitted = defender.fit(lent.lend(), OwnSplits.of(splits))
    if not isinstance(fitted, Defender):
        found = type(fitted).__name__
        raise DefenderError(f"{type(defender).__name__}.fit must return a Defender; found {found}")
    _check_lent(defender, "fit", lent)
    return fitted


def _check_lent(defender: Defender, method: str, lent: Lent) -> None:
    if lent.changed:
        raise DefenderError(
            f"{type(defender).__name__}.{method} changed the weights of the classifier that it was given; it "
            f"must work on a copy of them, and harden return another (Classifier.with_tensors)"
        )


def check_response(defender: Defender, response: Response, n: int, base: Classifier) -> None:
    """The form of an answer, by what can be told without looking at the device."""
    who = type(defender).__name__
    if not isinstance(response, Response):
        raise DefenderError(f"defender {who} must answer a Response; found {type(response).__name__}")
    wanted: list[tuple[str, object, torch.dtype, tuple[int, ...]]] = [
        ("scores", response.scores, torch.float32, (n, base.classes))
    ]
    for name in Response.FLAGS:
        if (flag := response.given(name)) is not None:
            wanted.append((name, flag, torch.bool, (n,)))
    for what, value, dtype, shape in wanted:
        if not isinstance(value, Tensor):
            raise DefenderError(f"defender {who}: {what} must be a tensor; found {type(value).__name__}")
        if value.dtype != dtype or value.shape != shape or value.device != base.device:
            raise DefenderError(
                f"defender {who}: {what} must be {dtype} {list(shape)} on {base.device}; "
                f"found {value.dtype} {list(value.shape)} on {value.device}"
            )
