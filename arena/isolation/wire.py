"""Messages between the arena and an agent's process: JSON and raw tensors, over one descriptor.

A message is a prefix (its form, the bytes of its header, the bytes of its body), a header in JSON, and the
elements of its tensors one after another. Nothing that comes from an agent's process is unpickled, and
nothing is taken in that is larger than the receiver has room for.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_PREFIX = struct.Struct("<4sIQ")
_FORM = b"ARN1"
_JOINED = 2**16
"""Bytes of a message up to which it is written at once."""
_MOST_TENSORS, _MOST_AXES = 4096, 8
DTYPES: dict[str, torch.dtype] = {
    str(kind).removeprefix("torch."): kind
    for kind in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    )
}
"""The kinds of numbers that are sent, by name."""


class Garbled(Exception):
    """What came is no message, or is larger than there is room for: the end of a sentence."""


class Closed(Exception):
    """The other side closed the descriptor."""


@dataclass(frozen=True)
class Room:
    """How large a message may be: bytes of its header and of its body."""

    header: int = 2**16
    body: int = 2**20


ANY = Room(2**31, 2**44)
"""For what the arena itself sends."""


@dataclass(frozen=True, eq=False)
class Message:
    """What is sent: its kind, JSON values by name, and tensors.

    Attributes:
        tensors: on the CPU once received; dense ones keep their strides, by which kernels go.
    """

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    tensors: Sequence[Tensor] = ()


class Wire:
    """One end of a stream of messages.

    Args:
        descriptor: of a stream socket; without blocking where `wait` is given.
        room: for what comes.
        wait: returns when the descriptor can be read (select.POLLIN) or written (select.POLLOUT); it may
            raise what ends the talk.
    """

    def __init__(self, descriptor: int, room: Room, wait: Callable[[int], None] | None = None) -> None:
        self.descriptor, self.room, self._wait = descriptor, room, wait

    def send(self, message: Message) -> None:
        """Raises Closed."""
        tensors = [_plain(tensor) for tensor in message.tensors]
        told = [_told(tensor) for tensor in tensors]
        header = json.dumps([message.kind, message.values, told]).encode()
        bodies = [_bytes_of(tensor.contiguous()) for tensor in tensors if tensor.numel()]
        size = sum(map(len, bodies))
        parts = [memoryview(_PREFIX.pack(_FORM, len(header), size) + header), *bodies]
        if size <= _JOINED:
            parts = [memoryview(b"".join(parts))]
        for part in parts:
            self._write(part)

    def receive(self) -> Message:
        """The next message.

        Raises:
            Closed: if there will be none.
            Garbled: if what came is none, or is too large.
        """
        form, header_size, body_size = _PREFIX.unpack(self._read_new(_PREFIX.size))
        if form != _FORM:
            raise Garbled(f"bytes that begin no message ({form!r})")
        for what, found, most in (
            ("header", header_size, self.room.header),
            ("body", body_size, self.room.body),
        ):
            if found > most:
                raise Garbled(f"a message with a {what} of {found:,} bytes, where {most:,} are the most")
        kind, values, told = _header(bytes(self._read_new(header_size)))
        forms = [_form(one) for one in told]
        if (named := sum(size for *_, size in forms)) != body_size:
            raise Garbled(f"a message with {body_size:,} bytes of tensors, where its header names {named:,}")
        return Message(kind, values, [self._tensor(*one) for one in forms])

    def _tensor(
        self, kind: torch.dtype, shape: Sequence[int], strides: Sequence[int] | None, size: int
    ) -> Tensor:
        tensor = torch.empty(shape, dtype=kind)
        if size:
            self._read(_bytes_of(tensor))
        return tensor if strides is None else torch.empty_strided(shape, strides, dtype=kind).copy_(tensor)

    def _read_new(self, size: int) -> bytearray:
        held = bytearray(size)
        self._read(memoryview(held))
        return held

    def _read(self, into: memoryview) -> None:
        while len(into):
            try:
                count = os.readv(self.descriptor, [into])
            except BlockingIOError:
                self._until(select.POLLIN)
                continue
            except OSError as error:
                raise Closed from error
            if not count:
                raise Closed
            into = into[count:]

    def _write(self, part: memoryview) -> None:
        while len(part):
            try:
                part = part[os.write(self.descriptor, part) :]
            except BlockingIOError:
                self._until(select.POLLOUT)
            except OSError as error:
                raise Closed from error

    def _until(self, event: int) -> None:
        assert self._wait is not None
        self._wait(event)


def _plain(tensor: Tensor) -> Tensor:
    return torch.resolve_neg(tensor.detach()).cpu()


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor that has elements."""
    elements: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(elements)


def _told(tensor: Tensor) -> list[Any]:
    """What a header says of a tensor: its kind and shape, and strides where it is dense in another order."""
    told = [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
    if tensor.is_contiguous() or torch.empty_like(tensor).stride() != tensor.stride():
        return told
    return [*told, list(tensor.stride())]


def _header(content: bytes) -> tuple[str, dict[str, Any], list[Any]]:
    try:
        kind, values, told = json.loads(content)
    except (ValueError, TypeError, RecursionError):
        raise Garbled("a message whose header cannot be read") from None
    if type(kind) is not str or type(values) is not dict or type(told) is not list:
        raise Garbled("a message whose header is none")
    if len(told) > _MOST_TENSORS:
        raise Garbled(f"a message with {len(told):,} tensors")
    return kind, values, told


def _form(told: Any) -> tuple[torch.dtype, tuple[int, ...], tuple[int, ...] | None, int]:
    """A tensor's kind, shape and strides as a header tells them, and its bytes."""
    if type(told) is not list or len(told) not in (2, 3) or type(told[0]) is not str or told[0] not in DTYPES:
        raise Garbled("a tensor of no kind that is sent")
    kind, axes = DTYPES[told[0]], told[1:]
    for sizes in axes:
        if type(sizes) is not list or len(sizes) != len(axes[0]) or len(sizes) > _MOST_AXES:
            raise Garbled("a tensor without a shape")
        if not all(type(size) is int and 0 <= size < 2**40 for size in sizes):
            raise Garbled("a tensor whose shape is none")
    shape, strides = tuple(axes[0]), tuple(axes[1]) if len(axes) == 2 else None
    if strides is not None and not _is_dense(shape, strides):
        raise Garbled("a tensor whose elements do not lie side by side")
    return kind, shape, strides, math.prod(shape) * kind.itemsize


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the strides are those of some order of the axes, without gaps: no more memory than elements."""
    reach = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride != reach:
            return False
        reach *= size if size > 1 else 1
    return all(size for size in shape)
