"""What defenders are asked, and what they answer, as messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from arena.isolation.moves import read_value, thing, written_value
from arena.isolation.wire import Garbled, Message, Room
from arena.players.defender import Rows
from arena.players.response import Response

ROOM = Room(2**24, 2**30)
"""For what a defender asks and answers, and for what it found as it was fitted."""
_SENDERS = ("game", "key", "turn", "account", "place", "draw")


def written_rows(kind: str, x: Any, rows: Any, values: Mapping[str, Any] | None = None) -> Message:
    """Images and their senders as a message; what else a defender may ask with is told in words."""
    tensors: list[Tensor] = []
    fields = {"x": written_value(x, tensors, ROOM.body)}
    if isinstance(rows, Rows):
        fields |= {name: written_value(getattr(rows, name), tensors, ROOM.body) for name in _SENDERS}
    else:
        fields["rows"] = written_value(rows, tensors, ROOM.body)
    return Message(kind, {**(values or {}), "fields": fields}, tensors)


def read_rows(message: Message, device: torch.device) -> tuple[Any, Any]:
    """Images and their senders, without memory; neither is checked but for the forms of the senders.

    Raises:
        Garbled: if the message tells none.
    """
    fields, tensors = message.values.get("fields"), [tensor.to(device) for tensor in message.tensors]
    if not isinstance(fields, dict) or "x" not in fields:
        raise Garbled(f"a message without images ({message.kind!r:.40})")
    held = {name: read_value(told, tensors, device) for name, told in fields.items()}
    x = held.pop("x")
    if set(held) == {"rows"}:
        return x, held["rows"]
    if set(held) != {*_SENDERS}:
        raise Garbled("a message without senders")
    columns = [value for name, value in held.items() if name != "draw" or type(value) is not int]
    for column in columns:
        if not isinstance(column, Tensor) or column.dtype != torch.int64 or column.shape != columns[0].shape:
            raise Garbled("senders that are none: int64 [n] each")
        if column.dim() != 1:
            raise Garbled("senders that are none: int64 [n] each")
    return x, Rows(**held)


def written_response(response: object) -> Message:
    """What a defender answers as a message, sound or not."""
    tensors: list[Tensor] = []
    if type(response) is not Response:
        return Message("response", {"thing": type(response).__name__}, tensors)
    held = vars(response)  # a field may have been taken away
    told = {name: held.get(f"_{name}") for name in Response.FLAGS} | {"scores": held.get("scores")}
    fields = {name: written_value(value, tensors, ROOM.body) for name, value in told.items()}
    return Message("response", {"fields": fields}, tensors)


def read_response(message: Message, device: torch.device) -> Any:
    """What a defender answered, unchecked; tensors on `device`.

    Raises:
        Garbled: if the message tells none.
    """
    if message.kind != "response":
        raise Garbled(f"a message of another kind than an answer ({message.kind!r:.40})")
    if "thing" in message.values:
        return thing(message.values["thing"])
    fields, tensors = message.values.get("fields"), [tensor.to(device) for tensor in message.tensors]
    if not isinstance(fields, dict) or set(fields) != {"scores", *Response.FLAGS}:
        raise Garbled("an answer without its fields")
    return Response(**{name: read_value(told, tensors, device) for name, told in fields.items()})


def written_state(kind: str, state: Mapping[str, Any], values: Mapping[str, Any]) -> Message:
    """What a defender found, tensors and JSON values by name, as a message."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in state.items() if name not in tensors}
    told = {**values, "plain": plain, "order": list(state), "names": list(tensors)}
    return Message(kind, told, list(tensors.values()))


def read_state(message: Message, device: torch.device) -> dict[str, Any]:
    """What a defender found.

    Raises:
        Garbled: if the message does not tell it.
    """
    plain, order, names = (message.values.get(key) for key in ("plain", "order", "names"))
    if not isinstance(plain, dict) or not isinstance(names, list) or not isinstance(order, list):
        raise Garbled("a state that is none")
    if len(names) != len(message.tensors) or not all(isinstance(name, str) for name in [*names, *order]):
        raise Garbled("a state whose tensors have no names")
    held = {**plain, **dict(zip(names, (t.to(device) for t in message.tensors), strict=True))}
    if set(order) != set(held):
        raise Garbled("a state whose parts have no order")
    return {name: held[name] for name in order}
