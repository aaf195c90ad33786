"""Small exact worlds (bench/books/world.py), and how tests play in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.game.referee import Referee
from arena.game.shard import play_games
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Attacker, Defender, Games, Needs, Play, Rows
from arena.records.reports import GameRows, MemoryListener
from arena.rules.threat import Threat
from bench.books.both import QUERIES
from bench.books.world import BIAS, SHAPE, WEIGHT, Exact, Warden, classifier, deal, images, index, warden

__all__ = ["SHAPE", "Exact", "Warden", "classifier", "deal", "images", "index", "warden"]


def smooth() -> Classifier:
    """The same logits without the rounding, which has no gradient."""
    linear = nn.Linear(4, 3)
    linear.load_state_dict({"weight": torch.tensor(WEIGHT) * 1.0, "bias": torch.tensor(BIAS) * 1.0})
    return Classifier(nn.Sequential(nn.Flatten(), linear), shape=SHAPE, classes=3)


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
    columns = ("game", *QUERIES)
    for rows in record.query_rows:
        for row in range(len(rows)):
            yield {"purpose": rows.purpose} | {name: getattr(rows, name)[row].item() for name in columns}


def marks_of(record: MemoryListener) -> dict[tuple[int, int], dict[str, Any]]:
    """The marks by game and query count; each may be reported once."""
    columns = ("turn", "answered", "vote", "wrong", "asked", "again", "base", "l2", "linf", "query_l2")
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for rows in record.mark_rows:
        for row, game in enumerate(rows.game.tolist()):
            assert (game, rows.at) not in found, f"mark {rows.at} of game {game} was reported twice"
            found[game, rows.at] = {name: getattr(rows, name)[row].tolist() for name in columns}
    return found
