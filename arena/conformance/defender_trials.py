"""A defender under check: prepared in tiny worlds, and asked row by row."""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena import draws
from arena.classifiers import Classifier
from arena.classifiers.fingerprints import fingerprint
from arena.conformance.results import ConformanceError, Skip
from arena.conformance.surroundings import AMBIENT
from arena.conformance.tiny_worlds import WORLDS, TinyWorld, tiny_world
from arena.game.blame import DefenderError
from arena.game.prepared import PreparedError, read, written
from arena.game.preparing import OwnSplits
from arena.game.stack import Stack, prepare
from arena.messages import failure
from arena.players import Defender, Response, Rows
from arena.surroundings import global_generators

LogitsOf = Callable[[Tensor, Rows], Tensor]
"""Images [n,C,H,W] and who asks -> logits [n,K]."""


@dataclass(eq=False)
class Passed:
    """What a defender passed on to the rest of the stack, [n,...] at each call, and what it was told."""

    x: list[Tensor]
    rows: list[Rows]
    scores: list[tuple[Tensor, Tensor]]


class AskedDefender:
    """A prepared defender with a fresh memory, around a classifier whose answers no batch changes.

    Its methods raise ConformanceError where the defender's fail.

    Args:
        games, accounts: the size of the memory.
        network: logits in place of the (hardened) classifier's, whose layers draw for the rows if any do.
        seed: of the defender's draws.
        ambient: the seed of the global random generators meanwhile.

    Attributes:
        passed: what the defender passed on to the rest of the stack.
        used: the global random generators that it drew from.
    """

    def __init__(
        self,
        defender: Defender,
        base: Classifier,
        *,
        games: int = 8,
        accounts: int = 3,
        network: LogitsOf | None = None,
        seed: int = 11,
        ambient: int = AMBIENT,
    ) -> None:
        self.defender, self.base, self.seed, self.ambient = defender, base, seed, ambient
        self.network = network or (lambda x, rows: base(x, rows if base.random else None))
        with answering_for(defender, "start"):
            self.memory = defender.start((games, *base.shape), accounts, torch.device(base.device))
        self.passed = Passed([], [], [])
        self.used: list[str] = []

    def ask(self, x: Tensor, rows: Rows) -> Response:
        """The defender's answer to images `x` [n,C,H,W]."""
        with answering_for(self.defender, "respond"), global_generators(self.ambient) as used:
            response = self.defender.respond(
                x, replace(rows, seed=self.seed, memory=self.memory), self._inner
            )
        self.used = [*self.used, *used]
        return response

    def keep(self, x: Tensor, rows: Rows, response: Response) -> None:
        """Let the defender remember rows, as the Referee does for those that it keeps."""
        if self.defender.memory != "none":
            with answering_for(self.defender, "remember"):
                self.defender.remember(x, replace(rows, seed=self.seed, memory=self.memory), response)

    def play(self, x: Tensor, rows: Rows) -> Response:
        """Ask, then keep."""
        response = self.ask(x, rows)
        self.keep(x, rows, response)
        return response

    def copy(self) -> AskedDefender:
        """A desk like this, with copies of defender and memory."""
        desk = copy.copy(self)
        desk.defender, desk.memory = copy.deepcopy((self.defender, self.memory))
        return desk

    def _inner(self, x: Tensor, rows: Rows) -> Response:
        scores = self.network(x, rows)
        self.passed.x.append(x)
        self.passed.rows.append(rows)
        self.passed.scores.append((scores, scores.clone()))
        return Response(scores)


@contextmanager
def answering_for(defender: Defender, method: str) -> Iterator[None]:
    """Report what fails within as ConformanceError."""
    try:
        yield
    except ConformanceError:
        raise
    except DefenderError as error:
        raise ConformanceError(f"its {method} failed: {error}") from error
    except Exception as error:
        raise ConformanceError(f"its {method} failed with {failure(error)}") from error


class DefenderSubject:
    """A defender, prepared when first asked for in each of the worlds.

    Args:
        defender: what is checked; it is copied each time it is prepared.
        device: where the images lie.

    Attributes:
        used: the global random generators that preparing it drew from last.
    """

    def __init__(self, defender: Defender, *, device: str = "cpu") -> None:
        self.defender, self.device = defender, device
        self._prepared: dict[int, tuple[Defender, Classifier]] = {}
        self.used: list[str] = []

    @property
    def worlds(self) -> list[TinyWorld]:
        """The worlds whose images it can defend, with classifiers of their own that it may spoil.

        Raises:
            Skip: if there are none.
        """
        if not isinstance(self._suited, list):
            raise Skip("it cannot be prepared properly")
        return self._suited

    @cached_property
    def _suited(self) -> list[TinyWorld] | str:
        """Those worlds, or why there are none."""
        places = [tiny_world(number, self.device) for number in range(len(WORLDS))]
        own = [replace(place, classifier=copy.deepcopy(place.classifier)) for place in places]
        try:
            with answering_for(self.defender, "unsuited"):
                found = [place for place in own if self.defender.unsuited(place.shape) is None]
        except ConformanceError as error:
            return str(error)
        return found or "it says that it can defend none of the images that it is tried on (unsuited)"

    def prepare(self, number: int, ambient: int = AMBIENT) -> tuple[Defender, Classifier]:
        """Harden, then fit, a copy in world `number`. Raises ConformanceError if that fails."""
        place = self.worlds[number]
        with answering_for(self.defender, "harden or fit"), global_generators(ambient) as self.used:
            stack = prepare(place.classifier, [copy.deepcopy(self.defender)], place)
        return stack.defenders[0], stack.base

    def prepared(self, number: int = 0) -> tuple[Defender, Classifier]:
        """The defender prepared in world `number`, and the hardened classifier; prepared once.

        Raises:
            Skip: if it cannot be prepared.
        """
        if self.flaw_of_fit is not None:
            raise Skip("it cannot be prepared properly")
        if number not in self._prepared:
            self._prepared[number] = self.prepare(number)
        return self._prepared[number]

    def desk(self, number: int = 0, **options: Any) -> AskedDefender:
        """A desk with a copy of the prepared defender, so that nothing stays from what was asked before.

        Raises:
            Skip: if it cannot be prepared, or does not answer ordinary queries properly.
        """
        if self.flaw_of_answers is not None or self.flaw_of_passing is not None:
            raise Skip("it does not answer ordinary queries properly")
        return self._desk(number, **options)

    def _desk(self, number: int, **options: Any) -> AskedDefender:
        defender, base = self.prepared(number)
        return AskedDefender(copy.deepcopy(defender), base, **options)

    @cached_property
    def flaw_of_fit(self) -> str | None:
        """What is wrong with how it is prepared."""
        try:
            return self._flaw_of_fit()
        except ConformanceError as error:
            return str(error)

    def _flaw_of_fit(self) -> str | None:
        if isinstance(self._suited, str):
            return self._suited
        place, own = self.worlds[0], copy.deepcopy(self.defender)
        given, before = (OwnSplits.of(place) for _ in range(2))
        parameters, classifier = copy.deepcopy(vars(own)), fingerprint(place.classifier.module)
        with answering_for(own, "harden"), global_generators(AMBIENT):
            base: object = own.harden(place.classifier, given)
        if not isinstance(base, Classifier) or (base.shape, base.classes) != (place.shape, place.classes):
            return "harden must return a Classifier of the same images and classes"
        with answering_for(own, "fit"), global_generators(AMBIENT):
            fitted: object = own.fit(base, given)
        if not isinstance(fitted, Defender) or not isinstance(fitted, type(own)):
            return f"fit must return a {type(own).__name__}; found {type(fitted).__name__}"
        if not alike(parameters, vars(own)):
            return "preparing changed the defender itself; fit must return another instead"
        if classifier != fingerprint(place.classifier.module):
            return "preparing changed the classifier itself; harden must return another instead"
        if not alike(vars(given), vars(before)):
            return "preparing changed the images or labels that it was given; it must work on copies"
        with answering_for(own, "facts"):
            json.dumps(fitted.facts())
        self._prepared[0] = fitted, base
        for number in range(1, len(self.worlds)):
            self._prepared[number] = self.prepare(number)
        return None

    @cached_property
    def flaw_of_answers(self) -> str | None:
        """What is wrong with its answers to ordinary queries. Raises Skip as `prepared` does."""
        for number, place in enumerate(self.worlds):
            for count in (1, 7):
                desk = self._desk(number)
                try:
                    response = desk.ask(self.images(count, number), rows_of(range(count), 1, self.device))
                except ConformanceError as error:
                    flaw: str | None = str(error)
                else:
                    flaw = flaw_of_response(response, count, place.classes, place.classifier.device)
                if flaw is not None:
                    shape = list(place.shape)
                    return f"{flaw} [{count} rows, {place.classes} classes, images {shape}]"
        return None

    @cached_property
    def flaw_of_passing(self) -> str | None:
        """What is wrong with what it passes on to the rest of the stack. Raises Skip as `prepared` does."""
        if self.flaw_of_answers is not None:
            raise Skip("it does not answer ordinary queries properly")
        for number, place in enumerate(self.worlds):
            desk = self._desk(number)
            desk.ask(self.images(7, number), rows_of(range(7), 1, self.device))
            for x, rows in zip(desk.passed.x, desk.passed.rows, strict=True):
                if x.dtype != torch.float32 or x.shape[1:] != place.shape:
                    want = f"[n,{','.join(map(str, place.shape))}] float32"
                    return f"it must pass on images {want}; found {x.dtype} {list(x.shape)}"
                if len(x) != len(rows):
                    return f"it passed on {len(x)} images with {len(rows)} rows"
                if not bool(x.isfinite().all()):
                    return "it passed on images that are not finite"
        return None

    def read_back(self, number: int = 0) -> tuple[Defender, Classifier]:
        """What `prepared` gives in world `number`, written and read back by a fresh copy.

        Raises ConformanceError if that fails, and Skip as `prepared` does.
        """
        defender, base = self.prepared(number)
        given = self.worlds[number].classifier
        stack = Stack(base, (defender,), (None if base is given else base,), (self.defender,))
        try:
            again = read(written(stack), given, [copy.deepcopy(self.defender)])
        except (PreparedError, DefenderError) as error:
            raise ConformanceError(str(error)) from error
        return again.defenders[0], again.base

    @cached_property
    def again(self) -> tuple[Defender, Classifier]:
        """What `prepared` gives in world 0, prepared once more on the same data."""
        return self.prepare(0)

    def images(self, count: int, number: int = 0) -> Tensor:
        """`count` images of world `number`, every second one next to the one before."""
        x = self.worlds[number].split("games", count).images
        near = 0.02 * (draws.uniform(5, torch.arange(count), 0, x.shape[1:]).to(x.device) - 0.5)
        x[1::2] = (x[: count - count % 2 : 2] + near[1::2]).clamp(0, 1)
        return x


def rows_of(
    game: Sequence[int], turn: Sequence[int] | int, device: str, account: Sequence[int] | int = 0
) -> Rows:
    """Rows of games by their places, whose numbers are others, at these turns and from these accounts."""

    def column(values: Sequence[int] | int) -> Tensor:
        values = [values] * len(game) if isinstance(values, int) else list(values)
        return torch.tensor(values, dtype=torch.int64, device=device)

    index = column(game)
    return Rows(index, number_of(index), column(turn), column(account), place=column(range(len(game))))


def number_of(game: Tensor) -> Tensor:
    """The numbers [n] of games `game` [n]."""
    return 7 * game + 3


def flaw_of_response(response: object, count: int, classes: int, device: torch.device) -> str | None:
    """What is wrong with the form of a response to `count` rows."""
    if not isinstance(response, Response):
        return f"respond must return a Response; found {type(response).__name__}"
    scores: object = response.scores
    want = f"scores must be float32 [{count},{classes}] on {device}"
    if not isinstance(scores, Tensor):
        return f"{want}; found {type(scores).__name__}"
    if scores.dtype != torch.float32 or scores.device != device or list(scores.shape) != [count, classes]:
        return f"{want}; found {scores.dtype} {list(scores.shape)} on {scores.device}"
    for name in Response.FLAGS:
        flag: object = response.given(name)
        if flag is None:
            continue
        if not isinstance(flag, Tensor) or flag.dtype != torch.bool or flag.device != device:
            return f"{name} must be bool [{count}] on {device}, or None; found {flag!r}"
        if list(flag.shape) != [count]:
            return f"{name} must be bool [{count}]; found shape {list(flag.shape)}"
    return None


def differs(one: Response, other: Response) -> str | None:
    """In what two responses to the same rows differ, bit for bit."""
    same = (one.scores == other.scores) | (one.scores.isnan() & other.scores.isnan())
    if not bool(same.all()):
        row = int((~same).any(dim=1).nonzero()[0])
        gap = float((one.scores[row] - other.scores[row]).abs().max())
        return f"its scores of row {row} are {gap:.3g} apart"
    for name in Response.FLAGS:
        mine, its = (getattr(response, name) for response in (one, other))
        if not torch.equal(mine, its):
            return f"row {int((mine != its).nonzero()[0])} is {name} in one answer and not in the other"
    return None


def alike(one: Any, other: Any) -> bool:
    """Whether two memories hold the same, tensors bit for bit; what holds nothing is compared by ==."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if is_dataclass(one) and not isinstance(one, type):
        return all(alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if hasattr(one, "__dict__"):
        return alike(vars(one), vars(other))
    return bool(one == other)
