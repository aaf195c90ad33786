"""The process in which a stranger's defender plays, as the arena holds it."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.game.blame import DefenderError, Told
from arena.isolation.children import Child
from arena.isolation.rows import ROOM, written_state
from arena.isolation.wire import Garbled, Message
from arena.players.defender import Rows
from arena.players.response import Response
from arena.players.stand_in import StandIn
from arena.rules.limits import Limits

Answer = Callable[[Message], Message]
"""What is answered to a process that asks for something."""


@dataclass(frozen=True)
class Found:
    """What a defender found as it was fitted.

    Attributes:
        classifier: the (hardened) one that it was fitted for.
    """

    state: Mapping[str, Any]
    classifier: Classifier
    facts: Mapping[str, Any]


class Memory:
    """Stands for a memory that the process keeps; when nobody holds this any more, it is dropped there."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __deepcopy__(self, memo: object) -> Memory:
        raise NotImplementedError("the memory lies in another process")


class Post:
    """The process in which a defender plays. It ends when the stand-in that began it is gone."""

    def __init__(self, defender: StandIn, limits: Limits, found: Found | None) -> None:
        self._name, self._numbers, self._dropped = defender.name, count(), list[int]()
        self._failed = False
        self._child = Child(defender.modules, limits)
        weakref.finalize(self, self._child.end)
        self._child.wire.room = ROOM
        values: dict[str, Any] = {"spec": json.loads(defender.spec), "state": None}
        tensors: Sequence[Tensor] = ()
        serve: dict[str, Answer] = {}
        if found is not None:
            state = written_state("", found.state, {})
            values |= {"state": state.values, "classifier": form_of(found.classifier)}
            tensors, serve = state.tensors, {"classify": classified_by(found.classifier)}
        self.ask(Message("defend", values, tensors), "restore", serve)

    def memory(self) -> Memory:
        made = Memory(next(self._numbers))
        weakref.finalize(made, self._dropped.append, made.number)
        return made

    def seat(self, rows: Rows) -> dict[str, Any]:
        """What a request says of rows besides their columns."""
        return {"seed": rows.seed, "memory": None if rows.memory is None else rows.memory.number}

    def ask(self, request: Message, method: str, serve: Mapping[str, Answer] | None = None) -> Message:
        """What the process answers; what it asks for meanwhile is served.

        Raises:
            DefenderError: if it fails. Whatever serving raises ends the process, too.
        """
        if self._failed:
            raise DefenderError(f"{self._name}.{method} cannot be asked: its process ended")
        dropped = self._dropped[:]
        del self._dropped[: len(dropped)]
        request = replace(request, values={**request.values, "drop": dropped})
        self._failed = True
        try:
            answer = conversed(self._child, request, f"{self._name}.{method}", serve or {})
        except Told as error:
            self._child.end()
            raise DefenderError(f"{self._name}.{method} failed: {error}") from error
        except BaseException:
            self._child.end()
            raise
        self._failed = False
        return answer


def conversed(
    child: Child, message: Message, doing: str, serve: Mapping[str, Answer], seconds: float | None = None
) -> Message:
    """What a process answers to a message, after what it asks for meanwhile. Raises Told.

    Args:
        seconds: that it may take between two things that it asks for; None: as the limits say, for all
            together, however often it asks.
    """
    spent = 0.0
    while True:
        begun = time.monotonic()
        answer = child.ask(message, doing, seconds, spent)
        if (server := serve.get(answer.kind)) is None:
            return answer
        if seconds is None:
            spent += time.monotonic() - begun
        try:
            message = server(answer)
        except Garbled as error:
            raise Told(f"its process sent {error}") from None


def written_answer(response: Response) -> Message:
    """A response of the arena's to a process."""
    flags = {name: flag for name in Response.FLAGS if (flag := response.given(name)) is not None}
    held = {"scores": response.scores, **flags}
    fields = {name: ["tensor", place] for place, name in enumerate(held)}
    fields |= {name: ["value", None] for name in Response.FLAGS if name not in held}
    return Message("response", {"fields": fields, "response": list(held)}, list(held.values()))


def form_of(classifier: Classifier) -> dict[str, Any]:
    """What a process is told of a classifier that it may ask."""
    shape = list(classifier.shape)
    return {"name": classifier.name, "classes": classifier.classes, "batch": classifier.batch, "shape": shape}


def classified_by(classifier: Classifier) -> Answer:
    def answer(message: Message) -> Message:
        if len(message.tensors) != 1 or message.tensors[0].dtype != torch.float32:
            raise Garbled("images that are none to the classifier")
        x = message.tensors[0].to(classifier.device)
        if x.shape[1:] != classifier.shape:
            raise Garbled(f"images of another shape than the classifier's: {list(x.shape)}")
        return Message("logits", {}, [classifier(x)])

    return answer


@contextmanager
def telling_of(defender: StandIn, method: str) -> Iterator[None]:
    """What goes wrong with a defender's process within is told as the defender's failure."""
    try:
        yield
    except Told as error:
        raise DefenderError(f"{defender.name}.{method} failed: {error}") from error
    except Garbled as error:
        raise DefenderError(f"{defender.name}.{method} failed: its process sent {error}") from error
