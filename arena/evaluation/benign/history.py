"""What a service remembers before a benign client comes: nothing, or the queries of others."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from arena import draws
from arena.evaluation.benign.client import Client, Heard, Sending

Kind: TypeAlias = Literal["empty", "benign", "attacker", "poison"]
TOLD = {
    "empty": "nothing yet",
    "benign": "queries of other benign clients",
    "attacker": "queries of an attacker around images of its own",
    "poison": "near copies of the clients' images, sent by somebody who knows them",
}
MOST = 10**6
SENDERS = 256
"""So many others ask side by side, at most."""

Pictures: TypeAlias = Callable[[int, int], Tensor]
"""Images [n,C,H,W] of others: from the first-th on, n of them; it never ends."""


@dataclass(frozen=True)
class History:
    """`queries` of others that came before; 0 for an empty memory."""

    kind: Kind
    queries: int = 0

    @classmethod
    def read(cls, text: object) -> History:
        """One as scenarios and logs write it: `empty`, `benign-1000`, `attacker-1000`, `poison-1000`.

        Raises:
            ValueError: the end of a sentence, if it is none.
        """
        if text == "empty":
            return cls("empty")
        kinds: list[Kind] = ["benign", "attacker", "poison"]
        kind, _, number = str(text).partition("-")
        queries = int(number) if re.fullmatch("[1-9][0-9]{0,6}", number) else 0
        for own in kinds:
            if kind == own and 0 < queries <= MOST:
                return cls(own, queries)
        allowed = ", ".join(f'"{own}-N"' for own in kinds)
        raise ValueError(f'found {text!r}; a history is "empty", or {allowed} with N from 1 to {MOST:,}')

    def __str__(self) -> str:
        return f"{self.kind}-{self.queries}" if self.queries else self.kind

    @property
    def senders(self) -> int:
        """How many others ask side by side."""
        return min(SENDERS, self.queries)

    def sending(self, known: Tensor, others: Pictures, clients: Sequence[Client], seed: int) -> Sending:
        """The queries of others: an image of each of the senders at a time, without an end.

        Args:
            known: [s,C,H,W] the images around which the clients' sessions will be.
            others: images that these do not send.
            clients: the kinds that take turns in a history of benign clients.
        """
        number = torch.arange(self.senders, device=known.device)
        if self.kind == "benign":
            return _benign(number, others, clients, seed)
        if self.kind == "attacker":
            return _attacking(number, others(0, len(number)), seed)
        return _poisoning(number, known, seed)


def _benign(number: Tensor, others: Pictures, clients: Sequence[Client], seed: int) -> Sending:
    """Sender i is a client of the kind i modulo their number, and another one with another image whenever a
    session is over."""
    shares = [number[place :: len(clients)] for place in range(min(len(clients), len(number)))]
    played = list(zip(clients, shares, strict=False))
    running = [_one_after_another(client, share, others, seed) for client, share in played]
    order = torch.cat(shares).argsort()
    sent = [next(sending) for sending in running]
    while True:
        heard = yield torch.cat(sent)[order]
        sent = [
            sending.send(Heard(heard.label[share], heard.scores[share], heard.answered[share]))
            for sending, share in zip(running, shares, strict=True)
        ]


def _one_after_another(client: Client, number: Tensor, others: Pictures, seed: int) -> Sending:
    first = int(number[0])
    session = 0
    while True:
        x = others(first + session * SENDERS, len(number))
        sending = client.send(x, number, draws.derive(seed, "history", session))
        image = next(sending)
        for _ in range(client.queries - 1):
            image = sending.send((yield image))
        yield image
        session += 1


def _attacking(number: Tensor, x: Tensor, seed: int) -> Sending:
    """Probes of a gradient estimate around images of the attacker's own: Gaussian steps of .01 a pixel."""
    turn = 0
    while True:
        turn += 1
        yield (x + 0.01 * draws.normal(seed, number, turn, x.shape[1:])).clamp(0, 1)


def _poisoning(number: Tensor, known: Tensor, seed: int) -> Sending:
    """The known images in turns: first as they are, then with each pixel moved by up to 1/255."""
    turn = 0
    while True:
        place = number + turn * len(number)
        moved = known[place % len(known)]
        noise = (2 * draws.uniform(seed, number, turn, moved.shape[1:]) - 1) / 255
        again = (place >= len(known)).view(-1, 1, 1, 1)
        yield torch.where(again, moved + noise, moved).clamp(0, 1)
        turn += 1
