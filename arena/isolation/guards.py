"""What runs in a defender's process, once that is locked in: as it is described, prepared, and played."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.classifiers.keyed import Keys
from arena.classifiers.threads import computing_threads
from arena.datasets import Split
from arena.game.preparing import MissingPart, OwnSplits, overrides
from arena.isolation.moves import written_value
from arena.isolation.rows import (
    ROOM,
    read_response,
    read_rows,
    written_response,
    written_rows,
    written_state,
)
from arena.isolation.wire import Closed, Message, Wire
from arena.messages import failure
from arena.modes import own_modes
from arena.players.defender import Defender, Rows
from arena.players.parameters import parameters
from arena.players.registry import AgentError, build_defender
from arena.players.response import Response

_CPU = torch.device("cpu")


def declared_by(defender: Defender) -> dict[str, Any]:
    """What a defender says of itself, as JSON values."""
    return {
        "random": defender.random,
        "memory": defender.memory,
        "asks": defender.asks,
        "acts": defender.acts,
        "secrets": list(defender.secrets),
        "detector": defender.has_detector(),
        "facts": defender.answers_are_facts,
        "hardens": overrides(defender, "harden"),
        "fits": overrides(defender, "fit"),
        "rebuilds": overrides(defender, "rebuild"),
        "chooses": overrides(defender, "unsuited"),
        "parameters": json.loads(json.dumps(parameters(defender), default=str)),
        "inside": [],
    }


def describe(wire: Wire, message: Message) -> None:
    """Say of a defender what there is to know of it before it is prepared."""
    try:
        defender = build_defender(message.values["spec"])
    except AgentError as error:
        wire.send(Message("refused", {"said": str(error)}))
        return
    wire.send(Message("described", declared_by(defender)))


@dataclass(frozen=True, eq=False)
class _AskedImages:
    """Images that lie in the arena's process, and are asked for when needed."""

    wire: Wire
    shape: torch.Size
    dtype: torch.dtype

    def __getitem__(self, index: Tensor) -> Tensor:
        self.wire.send(Message("images", {}, [index]))
        return self.wire.receive().tensors[0]


def _asked_splits(wire: Wire, told: Mapping[str, Any], tensors: list[Tensor]) -> OwnSplits:
    """The parts that a defender prepares itself on; their images are asked for."""
    parts = {}
    if told["parts"]:
        source = _AskedImages(wire, torch.Size(told["shape"]), getattr(torch, told["dtype"]))
        for place, name in enumerate(told["parts"]):
            parts[name] = Split(source, *tensors[2 * place : 2 * place + 2])
    return OwnSplits(parts, told["missing"])


def prepare(wire: Wire, message: Message) -> None:
    """Let a defender harden a copy of the classifier, or fit itself to one."""
    told = message.values
    content, *tensors = message.tensors
    defender, classifier = build_defender(told["spec"]), pickle.loads(content.numpy().tobytes())
    splits = _asked_splits(wire, told["splits"], tensors)
    with own_modes(), computing_threads(1):
        try:
            made: Any = getattr(defender, told["method"])(classifier, splits)
        except MissingPart as error:
            wire.send(Message("missing", {"said": str(error)}))
            return
    if told["method"] == "harden":
        wire.send(_hardened(made, classifier))
    elif not isinstance(made, Defender):
        wire.send(Message("other", {"name": type(made).__name__}))
    else:
        values = {"declared": declared_by(made), "found": json.loads(json.dumps(dict(made.facts())))}
        wire.send(written_state("fitted", made.state(), values))


def _hardened(made: object, given: Classifier) -> Message:
    if not isinstance(made, Classifier):
        return Message("other", {"name": type(made).__name__})
    if made is given:
        return Message("as it was")
    if type(made) is not Classifier or repr(made.module) != repr(given.module):
        return Message("another network")
    return written_state("hardened", made.tensors(), {})


class _AskedClassifier(Classifier):
    """The (hardened) classifier, which lies in the arena's process: it can be asked, and that is all."""

    def __init__(self, wire: Wire, told: Mapping[str, Any]) -> None:
        self._wire = wire
        self.name, self.classes, self.batch = told["name"], told["classes"], told["batch"]
        channels, height, width = told["shape"]
        self.shape, self.device, self.precision = (channels, height, width), _CPU, "float32"

    @property
    def random(self) -> bool:
        return False

    def __call__(self, x: Tensor, keys: Keys | None = None) -> Tensor:
        self._wire.send(Message("classify", {}, [x]))
        return self._wire.receive().tensors[0]

    def differentiable(self, x: Tensor) -> Tensor:
        raise NotImplementedError(
            "in a process of its own, a defender can ask the classifier for answers alone"
        )


def defend(wire: Wire, message: Message) -> None:
    """Build a defender as it was prepared, and answer for it until the arena closes the wire."""
    told = message.values
    defender = build_defender(told["spec"])
    if (state := told["state"]) is not None:
        found = {**state["plain"], **dict(zip(state["names"], message.tensors, strict=True))}
        found = {name: found[name] for name in state["order"]}
        with own_modes():
            defender = defender.restore(found, _AskedClassifier(wire, told["classifier"]))
    post = _Post(wire, defender)
    wire.send(Message("ready"))
    while True:
        try:
            request = wire.receive()
        except Closed:
            return
        post.free(request.values.get("drop", ()))
        try:
            with own_modes():
                answer = post.serve(request)
        except Closed:
            return
        except BaseException as error:  # the defender's own, whatever it is: the arena is told
            answer = Message("failed", {"said": failure(error)})
        wire.send(answer)


class _Post:
    """A defender that serves, and its memories by number."""

    def __init__(self, wire: Wire, defender: Defender) -> None:
        self.wire, self.defender = wire, defender
        self._memories: dict[int | None, Any] = {None: None}
        self._serves: dict[str, Callable[[Message], Message]] = {
            "unsuited": self._unsuited,
            "start": self._start,
            "respond": self._respond,
            "remember": self._remember,
            "forget": self._forget,
            "detector": self._detector,
        }

    def serve(self, request: Message) -> Message:
        return self._serves[request.kind](request)

    def free(self, numbers: list[int]) -> None:
        for number in numbers:
            self._memories.pop(number, None)

    def _unsuited(self, request: Message) -> Message:
        return Message("unsuited", {"why": self.defender.unsuited(tuple(request.values["shape"]))})

    def _start(self, request: Message) -> Message:
        told = request.values
        games, channels, height, width = told["shape"]
        memory = self.defender.start((games, channels, height, width), told["accounts"], _CPU)
        self._memories[told["memory"]] = memory
        return Message("started")

    def _rows(self, request: Message) -> tuple[Tensor, Rows]:
        x, rows = read_rows(request, _CPU)
        told = request.values
        return x, _seated(rows, told["seed"], self._memories[told["memory"]])

    def _respond(self, request: Message) -> Message:
        x, rows = self._rows(request)
        return written_response(self.defender.respond(x, rows, self._inner))

    def _inner(self, z: Tensor, rows: Rows) -> Response:
        self.wire.send(written_rows("inner", z, rows))
        response: Response = read_response(self.wire.receive(), _CPU)
        return response

    def _remember(self, request: Message) -> Message:
        x, rows = self._rows(request)
        told = request.values["response"]
        fields = dict(zip(told, request.tensors[-len(told) :], strict=True))
        self.defender.remember(x, rows, Response(**fields))
        return Message("remembered")

    def _forget(self, request: Message) -> Message:
        self.defender.forget(self._memories[request.values["memory"]], request.tensors[0])
        return Message("forgotten")

    def _detector(self, request: Message) -> Message:
        classifier = _AskedClassifier(self.wire, request.values["classifier"])
        tensors: list[Tensor] = []
        found = self.defender.detector(request.tensors[0], classifier)
        return Message("detected", {"scores": written_value(found, tensors, ROOM.body)}, tensors)


def _seated(rows: Rows, seed: int, memory: Any) -> Rows:
    return Rows(rows.game, rows.key, rows.turn, rows.account, rows.place, seed, rows.draw, memory)
