"""What defenders with a history share: whose queries are compared, what is remembered, what an alarm does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from agents.parameters import check_choice
from arena.players import Defender, Inner, Response, Rows
from arena.players.defender import Memory

Scope: TypeAlias = Literal["account", "service"]
Action: TypeAlias = Literal["reject", "cached", "silent", "ban"]
SCOPES: tuple[Scope, ...] = ("account", "service")
ACTIONS: tuple[Action, ...] = ("reject", "cached", "silent", "ban")


class Ring:
    """The last `capacity` of rows that are numbered from 0: it grows by doubling up to that."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.count = capacity, 0
        self.held: Tensor | None = None

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, rows: Tensor) -> None:
        """Append `rows` [n,...]; the oldest are overwritten."""
        end = self.count + len(rows)
        kept = rows[-self.capacity :]
        size = 0 if self.held is None else len(self.held)
        if size < min(end, self.capacity):
            grown = rows.new_empty((min(max(end, 2 * size), self.capacity), *rows.shape[1:]))
            if self.held is not None:
                grown[:size] = self.held
            self.held = grown
        assert self.held is not None
        places = torch.arange(end - len(kept), end, device=rows.device) % self.capacity
        self.held[places] = kept
        self.count = end

    def rows(self) -> Tensor:
        """All that it holds, [m,...], in the order of their places."""
        assert self.held is not None
        return self.held[: len(self)]

    def numbers(self, places: Tensor) -> Tensor:
        """The numbers of the rows at `places` [n] of `rows()`."""
        return self.count - 1 - (self.count - 1 - places) % self.capacity

    def take(self, numbers: Tensor) -> Tensor:
        """The rows of these numbers [n]."""
        assert self.held is not None
        return self.held[numbers % self.capacity]

    def clear(self) -> None:
        """Forget all rows; numbers begin at 0 again."""
        self.count, self.held = 0, None


class Index(ABC):
    """The queries that one account, or the service, is remembered by, numbered from 0 as they came.

    Attributes:
        answers: [.,K] what they were answered; NaN where nothing was.
    """

    def __init__(self, capacity: int) -> None:
        self.answers = Ring(capacity)

    @abstractmethod
    def find(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compare queries with the history, which does not change: whether each is an alarm [n] bool, and the
        number of the remembered query that it resembles most [n] int64, -1 where there is none."""

    @abstractmethod
    def add(self, features: Tensor, answers: Tensor, flagged: Tensor) -> None:
        """Remember queries in order, with their `answers` [n,K] and whether these were flagged [n] bool."""


@dataclass(eq=False)
class Histories:
    """All histories of a shard. They are written nowhere, and end with it.

    Attributes:
        shape: of an image, [C,H,W].
        accounts: how many each game has.
        of: by owner: game * accounts + account, or 0 for the service; made when first written to.
    """

    shape: tuple[int, ...]
    accounts: int
    of: dict[int, Index] = field(default_factory=dict)


@dataclass(frozen=True)
class Stateful(Defender, ABC):
    """A defender that compares each query with those that it remembers.

    A query is tested, answered, then remembered, flagged ones too, with what was answered. Rows of one wave
    (one row of each open game) meet the same memory: with a history of the service those of other games in it
    are not seen yet. A query that is sent again is like any near copy: it is flagged. At most `capacity`
    queries of an account, or of the service, are remembered; beyond that the oldest are forgotten.

    Attributes:
        history: whose queries are compared with each other: those of one account of a game, or all of the
            service (the shard), whoever sends them.
        action: what follows an alarm, which is flagged always: the query is refused ("reject"); it is given
            the answer that the query got which it resembles most ("cached"); it is answered as any other
            ("silent"); or its account is closed ("ban").
        capacity: the most queries that a history remembers.
    """

    history: Scope = "service"
    action: Action = "reject"
    capacity: int = 100_000

    def __post_init__(self) -> None:
        check_choice(self, history=SCOPES, action=ACTIONS)
        if not 1 <= self.capacity <= 10**8:
            raise ValueError(f"capacity must be from 1 to 10^8; found {self.capacity}")

    @property
    def memory(self) -> Memory:
        return self.history

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """[n,...] what is compared of images [n,C,H,W]."""

    @abstractmethod
    def index(self, shape: tuple[int, ...]) -> Index:
        """An empty index for `capacity` queries with images of `shape` [C,H,W]."""

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Histories:
        return Histories(shape[1:], accounts)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        response = inner(x, rows)
        alarm, answers = self._find(x, rows, response.scores)
        flagged = response.flagged | alarm
        if self.action == "reject":
            return replace(response, flagged=flagged, refused=response.refused | alarm)
        if self.action == "ban":
            return replace(response, flagged=flagged, banned=response.banned | alarm)
        if self.action == "cached":
            scores = torch.where(alarm.unsqueeze(1), answers, response.scores)
            return replace(response, flagged=flagged, scores=scores)
        return replace(response, flagged=flagged)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        if not len(x):
            return
        histories: Histories = rows.memory
        features, flagged = self.features(x), response.flagged
        answers = torch.where(response.withheld.unsqueeze(1), torch.nan, response.scores)
        for owner, mine in self._owned(rows):
            if owner not in histories.of:
                histories.of[owner] = self.index(histories.shape)
            own = features[mine.to(features.device)]
            histories.of[owner].add(own, answers[mine], flagged[mine])

    def forget(self, memory: Any, games: Tensor) -> None:
        accounts = memory.accounts
        for game in games.tolist() if self.history == "account" else ():
            for account in range(accounts):
                memory.of.pop(game * accounts + account, None)

    def _find(self, x: Tensor, rows: Rows, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows are alarms [n], and the answers that the queries got which they resemble most [n,K]."""
        histories: Histories = rows.memory
        alarm, answers = torch.zeros(len(x), dtype=torch.bool, device=x.device), scores.clone()
        if not histories.of:
            return alarm, answers
        features = self.features(x)
        for owner, mine in self._owned(rows):
            if (index := histories.of.get(owner)) is None:
                continue
            found, number = index.find(features[mine.to(features.device)])
            alarm[mine] = found.to(x.device)
            if self.action == "cached" and bool(found.any()):
                answers[mine[alarm[mine]]] = index.answers.take(number[found].to(x.device))
        return alarm, answers

    def _owned(self, rows: Rows) -> Iterator[tuple[int, Tensor]]:
        """Owners, with the places [m] of their rows, ascending."""
        if self.history == "service":
            yield 0, torch.arange(len(rows), device=rows.game.device)
            return
        places: dict[int, list[int]] = {}
        for place, owner in enumerate((rows.game * rows.memory.accounts + rows.account).tolist()):
            places.setdefault(owner, []).append(place)
        for owner, mine in places.items():
            yield owner, torch.tensor(mine, device=rows.game.device)
