"""Small exact worlds: a classifier whose logits are the same bits in any batch, a defender with every whim.

Images are [1,2,2] with pixels on sixteenths. A logit is a sum of integers times pixels, taken in float64 and
rounded to a 64th: no order of summation, and no batch, can change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.game.openings import Openings
from arena.game.referee import Referee
from arena.game.shard import play_games
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Attacker, Defender, Games, Needs, Play, Response, Rows
from arena.records.reports import GameRows, MemoryListener
from arena.rules.threat import Threat

SHAPE = (1, 2, 2)
WEIGHT = ((4, -4, 0, 0), (-4, 4, 0, 0), (0, 0, 4, -4))
BIAS = (0, 0, -1)
"""0 where the first pixel is above the second, 1 where below, 2 where the third is far above the fourth."""


class Exact(nn.Module):
    """Logits round(64 (W x + b)) / 64, in float64; NaN where the first pixel is 1."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Sequence[Sequence[int]] = WEIGHT, bias: Sequence[int] = BIAS) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight, dtype=torch.float64))
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.double().flatten(1)
        logits = (pixels.unsqueeze(1) * self.weight).sum(dim=2) + self.bias
        hole = (pixels[:, 0] == 1).unsqueeze(1) & (torch.arange(len(self.bias), device=x.device) == 0)
        return torch.where(hole, torch.nan, (logits * 64).round() / 64).float()


def classifier(
    weight: Sequence[Sequence[int]] = WEIGHT, bias: Sequence[int] = BIAS, batch: int = 256
) -> Classifier:
    return Classifier(Exact(weight, bias), shape=SHAPE, classes=len(bias), batch=batch)


def smooth() -> Classifier:
    """The same logits without the rounding, which has no gradient."""
    linear = nn.Linear(4, 3)
    linear.load_state_dict({"weight": torch.tensor(WEIGHT) * 1.0, "bias": torch.tensor(BIAS) * 1.0})
    return Classifier(nn.Sequential(nn.Flatten(), linear), shape=SHAPE, classes=3)


def images(sixteenths: Iterable[Sequence[int]]) -> Tensor:
    """Images [n,1,2,2] of pixels given in sixteenths."""
    pixels = torch.tensor(list(sixteenths), dtype=torch.float32).reshape(-1, *SHAPE)
    return pixels / 16


def index(*games: int) -> Tensor:
    return torch.tensor(games, dtype=torch.int64)


@dataclass(frozen=True)
class Warden(Defender):
    """Refuses, declines, flags, bans, shifts and flips, by the image and by how much it remembers.

    `count` is the number of rows it was told to remember of the game, the account or the service; `code` the
    sum of the pixels in sixteenths.
    """

    FLIPPED: ClassVar[float] = 0.3

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        sizes = {"game": (shape[0], 1), "account": (shape[0], accounts), "service": (1, 1)}
        if self.memory == "none":
            return None
        return SimpleNamespace(count=torch.zeros(sizes[self.memory], dtype=torch.int64), trace=[])

    def _place(self, rows: Rows) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros_like(rows.game)
        game = nothing if self.memory == "service" else rows.game
        return game, rows.account if self.memory == "account" else nothing

    def respond(self, x: Tensor, rows: Rows, inner: Callable[[Tensor, Rows], Response]) -> Response:
        scores = inner(x, rows).scores
        count = torch.zeros_like(rows.game) if rows.memory is None else rows.memory.count[self._place(rows)]
        code = (x.double().flatten(1).sum(dim=1) * 16).round().long()
        scores = scores + (torch.arange(scores.shape[1]) == 0) * (count % 3).unsqueeze(1)
        if self.random:
            flipped = rows.uniform(()) < self.FLIPPED
            scores = torch.where(flipped.unsqueeze(1), scores.roll(1, dims=1), scores)
        return Response(
            scores,
            declined=(code + count) % 7 == 6,
            refused=(code + 2 * count) % 5 == 4,
            flagged=code % 3 == 0,
            banned=(code + count) % 11 == 10,
        )

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory.count.index_put_(self._place(rows), torch.ones_like(rows.game), accumulate=True)
        code = (x.double().flatten(1).sum(dim=1) * 16).round().long()
        kept = zip(rows.game.tolist(), rows.turn.tolist(), rows.account.tolist(), code.tolist(), strict=True)
        rows.memory.trace += kept


def warden(memory: str = "none", random: bool = False) -> Warden:
    made: Warden = type(f"Warden_{memory}", (Warden,), {"memory": memory, "random": random})()
    return made


@dataclass(frozen=True)
class Flip(Defender):
    """Rolls the scores by one class with probability p; p = 1: it always lies."""

    p: float = 0.5
    random: ClassVar[bool] = True

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return torch.where((rows.uniform(()) < self.p).unsqueeze(1), scores.roll(1, dims=1), scores)


@dataclass(frozen=True)
class Noise(Defender):
    """Adds keyed normal noise of size sigma to the images."""

    sigma: float = 0.05
    random: ClassVar[bool] = True

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return (x + self.sigma * rows.normal(x.shape[1:])).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Scripted(Attacker):
    """Plays what a generator function plays."""

    script: Callable[[Games], Any]
    needs: ClassVar[Needs] = Needs()

    def play(self, games: Games) -> Play:
        played: Play = self.script(games)
        return played


def deal(
    x0: Tensor, label: Sequence[int], *, key: Sequence[int] | None = None, target: Sequence[int] | None = None
) -> Openings:
    keys = torch.arange(len(x0)) if key is None else index(*key)
    return Openings(x0, index(*label), keys, None if target is None else index(*target))


def truth(x0: Tensor, of: Classifier) -> list[int]:
    """The labels that the classifier gives."""
    found: list[int] = of(x0).argmax(dim=1).tolist()
    return found


def referee(
    defenders: Sequence[Defender] = (),
    *,
    threat: Threat | None = None,
    x0: Tensor | None = None,
    label: Sequence[int] | None = None,
    target: Sequence[int] | None = None,
    key: Sequence[int] | None = None,
    of: Classifier | None = None,
    seed: int = 0,
    **settings: Any,
) -> tuple[Referee, MemoryListener]:
    """A Referee over games on `x0` (two of them unless given), and what it reported."""
    of = of or classifier()
    x0 = images([(8, 4, 8, 4), (4, 12, 4, 8)]) if x0 is None else x0
    threat = threat or Threat(epsilon=4 / 16, budget=10)
    games = deal(x0, truth(x0, of) if label is None else label, key=key, target=target)
    oracle = StackOracle(Stack(of, tuple(defenders)), seed=seed, games=len(x0), accounts=threat.accounts)
    record = MemoryListener()
    return Referee(oracle, games, threat, listener=record, **settings), record


def played(script: Callable[[Games], Any], **settings: Any) -> tuple[GameRows, MemoryListener]:
    """A match of a scripted attacker to its end."""
    own, record = referee(**settings)
    rows = play_games(Scripted(script), own, own.seat())
    assert record.game_rows is rows
    assert not own.open.any()
    return rows, record


def log_of(record: MemoryListener) -> Iterator[dict[str, Any]]:
    """The logged queries, one by one."""
    columns = (
        "game",
        "turn",
        "account",
        "label",
        "refused",
        "flagged",
        "margin",
        "l2",
        "linf",
        "hit",
        "outside",
        "better",
    )
    for rows in record.query_rows:
        for row in range(len(rows)):
            yield {"purpose": rows.purpose} | {name: getattr(rows, name)[row].item() for name in columns}


def marks_of(record: MemoryListener) -> dict[tuple[int, int], dict[str, Any]]:
    """The marks by game and query count; each may be reported once."""
    columns = ("turn", "answered", "vote", "wrong", "asked", "again", "base", "l2", "linf")
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for rows in record.mark_rows:
        for row, game in enumerate(rows.game.tolist()):
            assert (game, rows.at) not in found, f"mark {rows.at} of game {game} was reported twice"
            found[game, rows.at] = {name: getattr(rows, name)[row].tolist() for name in columns}
    return found
