"""Moves, answers and seats as messages.

A move arrives as the attacker made it, malformed or not, so that the Referee's own checks say what is wrong
with it, in the same words as in one process. What cannot be sent (no plain tensor, one larger than any that
could be right) is told in words, and stands there as something of that name, which no check lets pass.
"""

from __future__ import annotations

import json
import math
import pickle
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from arena.game.tensors import flaw_of, own
from arena.isolation.wire import DTYPES, Garbled, Message, Room
from arena.messages import one_line
from arena.players.seat import Games, Resources
from arena.rules.moves import Answers, Claim, Consult, Move, Note, Resign, Submit, Volley
from arena.rules.threat import Threat

_MOVES: dict[type, tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind)) for kind in (Volley, Submit, Claim, Resign, Note, Consult)
}
_BY_NAME = {kind.__name__: kind for kind in _MOVES}
_OTHER = "other"
_LONGEST_TEXT, _MOST_BITS = 10_000, 1100
_EVERY = {
    str(kind).removeprefix("torch."): kind for kind in vars(torch).values() if type(kind) is torch.dtype
}
_SEAT = ("x0", "label", "target", "key")
_RESOURCES = ("images", "labels", "starts")


def room_for(games: int, max_rows: int, shape: Sequence[int]) -> Room:
    """Room for any right move: images of `shape` [C,H,W] and their games, as many as one may name."""
    rows = max(games, max_rows)
    return Room(2**18, rows * (4 * math.prod(shape) + 64) + 2**16)


# Moves


def written_move(move: object, room: Room) -> Message:
    """An attacker's move as a message."""
    kind = type(move)
    if kind not in _MOVES:
        return Message(_OTHER, {"name": _name(kind.__name__)})
    tensors: list[Tensor] = []
    held = {name: getattr(move, name, None) for name in _MOVES[kind]}
    values = {name: written_value(value, tensors, room.body) for name, value in held.items()}
    return Message(kind.__name__, values, tensors)


def read_move(message: Message, device: torch.device) -> Move:
    """The move that a message tells, unchecked; tensors on `device`.

    Raises:
        Garbled: if it tells none.
    """
    if message.kind == _OTHER:
        return typing.cast(Move, thing(message.values.get("name")))
    if (kind := _BY_NAME.get(message.kind)) is None:
        raise Garbled(f"a message of a kind that is none of a move ({one_line(message.kind)[:40]!r})")
    names = _MOVES[kind]
    if set(message.values) != set(names):
        raise Garbled(f"a {message.kind} without its fields")
    tensors = [tensor.to(device) for tensor in message.tensors]
    move: Any = kind(**{name: read_value(message.values[name], tensors, device) for name in names})
    return typing.cast(Move, move)


def written_value(value: Any, tensors: list[Tensor], room: int) -> list[Any]:
    """A value of an agent's as JSON, or a tensor of it that joins `tensors`, of `room` bytes at most."""
    if value is None or type(value) in (bool, float):
        return ["value", value]
    if type(value) is str:
        return ["value", value[:_LONGEST_TEXT]]
    if type(value) is int:
        return ["whole", hex(max(-(2**_MOST_BITS), min(value, 2**_MOST_BITS)))]
    if (flaw := flaw_of(value)) is not None:
        return ["thing", _name(flaw)]
    kind = str(value.dtype).removeprefix("torch.")
    held = sum(one.numel() * one.element_size() for one in tensors)
    if kind not in DTYPES or held + Tensor.numel(value) * Tensor.element_size(value) > room:
        return ["tensor of", kind, list(value.shape)]
    tensors.append(own(value))
    return ["tensor", len(tensors) - 1]


def read_value(told: Any, tensors: Sequence[Tensor], device: torch.device) -> Any:
    """What `written_value` wrote. Raises Garbled."""
    if type(told) is not list or len(told) < 2 or type(told[0]) is not str:
        raise Garbled("a field that is none")
    reader = _READERS.get(told[0])
    if reader is None:
        raise Garbled("a field of no kind that is sent")
    return reader(told, tensors, device)


def _read_value(told: list[Any], tensors: Sequence[Tensor], device: torch.device) -> Any:
    if told[1] is not None and type(told[1]) not in (bool, float, int, str):
        raise Garbled("a value that is none")
    return told[1]


def _read_whole(told: list[Any], tensors: Sequence[Tensor], device: torch.device) -> int:
    try:
        return int(told[1], 16)
    except (TypeError, ValueError):
        raise Garbled("a whole number that is none") from None


def _read_tensor(told: list[Any], tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    if type(told[1]) is not int or not 0 <= told[1] < len(tensors):
        raise Garbled("a tensor that was not sent")
    return tensors[told[1]]


def _read_unsent(told: list[Any], tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """A tensor of a kind and shape, in no memory of its own: no check needs to look at its elements."""
    try:
        kind, shape = _EVERY[told[1]], told[2]
        return torch.zeros((), dtype=kind, device=device).expand(shape)
    except Exception:  # whatever torch says of such a shape or kind
        raise Garbled("a tensor whose form is none") from None


def _read_thing(told: list[Any], tensors: Sequence[Tensor], device: torch.device) -> Any:
    return thing(told[1])


_READERS: dict[str, Callable[[list[Any], Sequence[Tensor], torch.device], Any]] = {
    "value": _read_value,
    "whole": _read_whole,
    "tensor": _read_tensor,
    "tensor of": _read_unsent,
    "thing": _read_thing,
}


def _name(text: str) -> str:
    return one_line(text)[:200]


def thing(name: Any) -> Any:
    """Something whose class is called so: it stands for what was not sent, in error sentences."""
    if type(name) is not str:
        raise Garbled("a thing without a name")
    return type(_name(name), (), {})()


# Answers

_ANSWERS = tuple(f.name for f in fields(Answers))


def written_answers(answers: Answers) -> Message:
    """The answers to a move as a message."""
    held = {name: value for name in _ANSWERS if (value := getattr(answers, name)) is not None}
    return Message("answers", {"fields": list(held)}, list(held.values()))


def read_answers(message: Message) -> Answers:
    """The answers that a message of the arena's tells."""
    empty: dict[str, Any] = dict.fromkeys(_ANSWERS)
    return Answers(**empty | dict(zip(message.values["fields"], message.tensors, strict=True)))


# Seats


def written_seat(games: Games, surrogates: Sequence[Tensor] = ()) -> Message:
    """An attacker's seat as a message: what it may know of its games, and nothing else.

    Args:
        surrogates: its reference networks, pickled, as bytes.
    """
    state, held = written_answers(games.state), games.resources
    given = {name: getattr(games, name) for name in _SEAT}
    given |= {name: getattr(held, name) for name in _RESOURCES}
    given |= {f"surrogate {n}": one for n, one in enumerate(surrogates)}
    given = {name: tensor for name, tensor in given.items() if tensor is not None}
    values = {
        "threat": games.threat.model_dump(mode="json"),
        "classes": games.classes,
        "seed": games.seed,
        "max_rows": games.max_rows,
        "answers_are_facts": games.answers_are_facts,
        "defense": json.loads(json.dumps(games.defense, default=str)),
        "tensors": list(given),
        "state": state.values,
    }
    return Message("seat", values, [*given.values(), *state.tensors])


def read_seat(message: Message) -> Games:
    """The seat that a message of the arena's tells."""
    told, names = message.values, message.values["tensors"]
    given = dict(zip(names, message.tensors[: len(names)], strict=True))
    state = Message("answers", told["state"], message.tensors[len(names) :])
    return Games(
        given["x0"],
        given["label"],
        threat_of(told["threat"]),
        classes=told["classes"],
        state=read_answers(state),
        target=given.get("target"),
        key=given["key"],
        seed=told["seed"],
        max_rows=told["max_rows"],
        answers_are_facts=told["answers_are_facts"],
        defense=told["defense"],
        resources=Resources(
            **{name: given.get(name) for name in _RESOURCES},
            surrogates=tuple(_unpacked(given[name]) for name in names if name.startswith("surrogate ")),
        ),
    )


def _unpacked(content: Tensor) -> nn.Module:
    # Read in the agent's process alone, from the arena's; nothing goes this way in the other direction.
    found: nn.Module = pickle.loads(content.numpy().tobytes())
    return found


def threat_of(told: Mapping[str, Any]) -> Threat:
    return Threat.model_validate(dict(told))
