"""Messages: what is sent arrives to the bit; what is none is told, and takes no more room than there is."""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.isolation.wire import ANY, DTYPES, Closed, Garbled, Message, Room, Wire

Ends = tuple[Wire, Wire]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    yield Wire(one.fileno(), ANY), Wire(other.fileno(), Room(1000, 1000))
    one.close()
    other.close()


def passed(message: Message, room: Room = ANY) -> Message:
    """A message after its way through a socket."""
    one, other = socket.socketpair()
    with one, other:
        sender = threading.Thread(target=Wire(one.fileno(), ANY).send, args=(message,))
        sender.start()
        found = Wire(other.fileno(), room).receive()
        sender.join()
    return found


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


@given(
    kind=st.sampled_from(sorted(DTYPES)),
    shape=st.lists(st.integers(0, 4), max_size=4),
    seed=st.integers(0, 2**31),
)
def test_tensors_of_every_kind_arrive_to_the_bit(kind: str, shape: list[int], seed: int) -> None:
    dtype = DTYPES[kind]
    content = torch.randint(0, 256, (math.prod(shape) * dtype.itemsize,), dtype=torch.uint8)
    if dtype == torch.bool:
        content %= 2
    sent = content.view(dtype).view(shape) if content.numel() else torch.empty(shape, dtype=dtype)
    (found,) = passed(Message("any", {"seed": seed}, [sent])).tensors
    assert (found.dtype, found.shape, bits(found)) == (sent.dtype, sent.shape, bits(sent))


def test_large_ones_and_several_arrive(worlds: object) -> None:
    sent = [torch.rand(300, 3, 32, 32), torch.arange(7), torch.tensor(float("nan"))]
    found = passed(Message("any", {"a": [1, None, "\ud800"]}, sent))
    assert found.values == {"a": [1, None, "\ud800"]}
    assert [bits(t) for t in found.tensors] == [bits(t) for t in sent]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.rand(4, 5).t(),
        torch.rand(1, 5).expand(3, 5),
        torch.rand(10)[::2],
        torch.rand(3, 4).requires_grad_(True),
        torch.complex(torch.rand(3), torch.rand(3)).conj().imag,
    ],
)
def test_dense_tensors_keep_their_strides(tensor: Tensor) -> None:
    (found,) = passed(Message("any", {}, [tensor])).tensors
    assert torch.equal(found, tensor)
    plain = torch.empty_like(tensor.detach())
    assert found.stride() == plain.stride()
    assert not found.requires_grad


def frame(header: object, body: bytes = b"", form: bytes = b"ARN1") -> bytes:
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<4sIQ", form, len(told), len(body)) + told + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" * 4, "begin no message"),
        (struct.pack("<4sIQ", b"ARN1", 1001, 0), "a header of 1,001 bytes, where 1,000 are the most"),
        (struct.pack("<4sIQ", b"ARN1", 10, 1001), "a body of 1,001 bytes"),
        (frame(b"{"), "cannot be read"),
        (frame(b"\xff\xfe"), "cannot be read"),
        (frame(b"[" * 900), "cannot be read"),
        (frame({"a": 1}), "cannot be read"),
        (frame(["a", {}]), "cannot be read"),
        (frame([1, {}, []]), "whose header is none"),
        (frame(["a", [], []]), "whose header is none"),
        (frame(["a", {}, [["float32"]]]), "of no kind"),
        (frame(["a", {}, [["object", [1]]]]), "of no kind"),
        (frame(["a", {}, [["float32", 3]]]), "without a shape"),
        (frame(["a", {}, [["float32", [1.5]]]]), "whose shape is none"),
        (frame(["a", {}, [["float32", [True]]]]), "whose shape is none"),
        (frame(["a", {}, [["float32", [-1]]]]), "whose shape is none"),
        (frame(["a", {}, [["float32", [2**40]]]]), "whose shape is none"),
        (frame(["a", {}, [["float32", [2**30, 2**30]]]]), "where its header names"),
        (frame(["a", {}, [["float32", [2]]]], b"1234"), "where its header names 8"),
        (frame(["a", {}, [["float32", [2], [5]]]], b"12345678"), "do not lie side by side"),
        (frame(["a", {}, [["float32", [2, 2], [1, 1]]]], b"1" * 16), "do not lie side by side"),
        (frame(["a", {}, [["float32", [2, 2], [1]]]], b"1" * 16), "without a shape"),
    ],
)
def test_what_is_no_message_is_told(ends: Ends, content: bytes, said: str) -> None:
    os.write(ends[0].descriptor, content)
    with pytest.raises(Garbled, match=said):
        ends[1].receive()


def test_too_many_tensors_are_none(ends: Ends) -> None:
    told = frame(["a", {}, [["bool", [0]]] * 5000])
    roomy = Wire(ends[1].descriptor, Room(10**6, 10**6))
    sender = threading.Thread(target=os.write, args=(ends[0].descriptor, told))
    sender.start()
    with pytest.raises(Garbled, match="5,000 tensors"):
        roomy.receive()
    sender.join()


@pytest.mark.parametrize("cut", [0, 5, 20])
def test_an_end_in_the_middle_is_told(cut: int) -> None:
    one, other = socket.socketpair()
    with other:
        os.write(one.fileno(), frame(["a", {}, [["float32", [2]]]], b"12345678")[:cut])
        one.close()
        with pytest.raises(Closed):
            Wire(other.fileno(), ANY).receive()
        with pytest.raises(Closed):
            Wire(other.fileno(), ANY).send(Message("a", {}, [torch.rand(10**6)]))
