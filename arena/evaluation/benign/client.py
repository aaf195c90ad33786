"""What a benign client is, and the two plainest."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Heard:
    """What clients hear of the images that they sent, one each, [s].

    Attributes:
        label: -1 where none was answered. scores: [s,K] logits, whatever they are where none was answered.
        answered: with a label.
    """

    label: Tensor
    scores: Tensor
    answered: Tensor


Sending: TypeAlias = Generator[Tensor, Heard, None]
"""Yields an image of each client, [s,C,H,W] in [0,1], and receives what they hear of it."""


@dataclass(frozen=True)
class Client:
    """A kind of client. All clients of a kind are played side by side: the first axis of a tensor is the
    client.

    Attributes:
        name: in scenarios, logs and tables; does: in a sentence.
        queries: how many images a client sends in its session; `send` may go on beyond.
    """

    name: ClassVar[str]
    does: ClassVar[str]
    queries: ClassVar[int]

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        """The sessions around images `x` [s,C,H,W], one a client.

        Args:
            key: [s] int64, the clients' numbers, to which their draws are keyed, with `seed`.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Single(Client):
    """Sends one image, once."""

    name: ClassVar[str] = "single"
    does: ClassVar[str] = "one image, once"
    queries: ClassVar[int] = 1

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        while True:
            yield x


@dataclass(frozen=True)
class Repeats(Single):
    """Sends the same image again and again, as one does whose page reloads."""

    name: ClassVar[str] = "repeats"
    does: ClassVar[str] = "the same image ten times"
    queries: ClassVar[int] = 10
