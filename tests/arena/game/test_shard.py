"""Shards: what `play_shard` leaves in pieces is what a Referee reports, failures included."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arena import draws
from arena.game.driver import drive
from arena.game.referee import Referee
from arena.game.shard import Job, play_shard, seat_attacker, seat_games, seed_of
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Games, Play
from arena.players.seat import Resources
from arena.records import pieces
from arena.records.pieces import Piece
from arena.records.reports import GameRows, MemoryListener
from arena.rules.moves import Resign
from arena.rules.threat import Threat


class Kept:
    """A recorder that keeps all pieces."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def record(self, piece: Piece) -> None:
        self.pieces.append(piece)

    @property
    def games(self) -> GameRows:
        """How the games ended: told in the last piece, and in no other."""
        *others, last = self.pieces
        assert all(piece.games is None for piece in others)
        assert last.games is not None
        return last.games


def steps(games: Games) -> Play:
    """Keyed steps, two rows a game, with notes; game 1 is left after three of them."""
    for step in range(6):
        i = games.open
        if not len(i):
            return
        x = games.x0[i].unsqueeze(1) + 0.2 * games.normal((2, *games.x0.shape[1:]), i)
        yield from games.ask(x.flatten(0, 1).clamp(0, 1), i.repeat_interleave(2), f"step {step % 2}")
        yield from games.note("radius", torch.full((len(i),), step / 8), i)
        if step == 3:
            yield Resign(torch.tensor([1]))


def job(worlds: ModuleType, script: Any = steps, **changes: Any) -> Job:
    x0 = worlds.images([(8, 6, 9, 4), (6, 8, 4, 4), (9, 7, 4, 8), (6, 9, 5, 4)])
    of = worlds.classifier()
    label = [*worlds.truth(x0, of)[:3], 2]  # the last is wrong from the start
    told = {
        "stack": Stack(of, (worlds.Noise(0.1), worlds.warden("account"))),
        "openings": worlds.deal(x0, label, key=[13, 10, 11, 12]),
        "threat": Threat(epsilon=3 / 16, budget=9, accounts=2, objective="submit"),
        "defender_seed": 4,
        "at": (3, 7),
        "votes": 5,
        "attacker": worlds.Scripted(script),
        "attacker_seed": 7,
        **changes,
    }
    return Job(**told)


def text(rows: Any) -> list[str]:
    """All columns of a report, to the bit."""
    values = [getattr(rows, f.name) for f in fields(rows)]
    return [v.tobytes().hex() if isinstance(v, np.ndarray) else str(v) for v in values]


@pytest.mark.parametrize("rows", [1, 10, 10**6])
def test_a_shard_is_what_a_referee_reports(
    worlds: ModuleType, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", rows)
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 1e9)
    own, heard, kept = job(worlds), MemoryListener(), Kept()
    oracle = StackOracle(own.stack, seed=4, games=4, accounts=2)
    referee = Referee(oracle, own.openings, own.threat, at=(3, 7), votes=5, listener=heard)
    ended = referee.finish(drive(own.attacker, referee.seat(seed=7), referee))
    play_shard(own, kept)

    assert text(kept.games) == text(ended)
    assert ended.reason == ["budget", "resigned", "budget", "clean"]
    reported = (heard.query_rows, heard.mark_rows, heard.note_rows)
    for kind, expected in zip(("queries", "marks", "notes"), reported, strict=True):
        found = [own for piece in kept.pieces for own in getattr(piece, kind)]
        wanted = [own for own in expected if len(own.game)]
        assert [text(own) for own in found] == [text(own) for own in wanted], kind
        assert found
    assert sum(piece.answered for piece in kept.pieces) == ended.queries.sum()
    counts = kept.pieces[-1].purposes
    assert set(counts) == {"step 0", "step 1"}
    assert sum(counts.values()).tolist()[:2] == [ended.queries.sum(), ended.refused.sum()]
    assert (len(kept.pieces) == 1) == (rows == 10**6)


def test_a_level_is_the_jobs(worlds: ModuleType) -> None:
    whole, kept = Kept(), Kept()
    play_shard(job(worlds), whole)
    play_shard(job(worlds, level="games"), kept)
    assert not any(piece.queries for piece in kept.pieces)
    assert text(kept.games) == text(whole.games)


def test_an_attacker_that_fails_leaves_a_note_and_the_last_piece(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        yield from games.ask(games.x0[:2], torch.arange(2), "first")
        yield Resign(torch.tensor([1]))
        raise KeyError("tau")

    kept, whole = Kept(), Kept()
    play_shard(job(worlds, script), kept)
    assert kept.games.reason == ["error", "resigned", "error", "clean"]
    assert kept.games.queries.tolist() == [1, 1, 0, 0]
    (note,) = [note for piece in kept.pieces for note in piece.notes]
    line = script.__code__.co_firstlineno + 3
    assert (note.key, note.game.tolist(), note.turn.tolist()) == ("error", [0, 2], [1, 0])
    assert note.value == [f"KeyError: 'tau' (test_shard.py:{line})"] * 2
    assert {purpose: own.tolist()[0] for purpose, own in kept.pieces[-1].purposes.items()} == {"first": 2}
    marks = {(at.at, game) for piece in kept.pieces for at in piece.marks for game in at.game.tolist()}
    assert marks == {(at, game) for at in (0, 3, 7) for game in range(4)}
    play_shard(job(worlds), whole)
    assert len(whole.games) == 4


def test_a_defender_that_fails_ends_all_games_of_its_shard_and_says_why(worlds: ModuleType) -> None:
    class Broken(worlds.Noise):  # type: ignore[misc,name-defined]
        def transform(self, x: Tensor, rows: Any) -> Tensor:
            if (rows.turn > 2).any():
                raise RuntimeError("out of order")
            return x

    kept, own = Kept(), job(worlds)
    play_shard(job(worlds, stack=Stack(own.stack.base, (Broken(),))), kept)
    games = kept.pieces[-1].games
    assert games is not None and games.reason == ["error", "error", "error", "clean"]
    assert games.queries.tolist() == [2, 2, 2, 0]
    said = {
        str(v) for piece in kept.pieces for rows in piece.notes if rows.key == "error" for v in rows.value
    }
    assert len(said) == 1
    assert said.pop().startswith("Broken.respond failed with RuntimeError: out of order (test_shard.py:")


def test_an_attacker_is_seated_with_what_is_its_own(worlds: ModuleType) -> None:
    held = Resources(images=worlds.images([(1, 2, 3, 4)]), labels=torch.tensor([1]))
    defense = {"defenders": [{"name": "noise"}]}
    for knowledge, told in (("none", None), ("defense", defense)):
        threat = Threat(epsilon=1, budget=9, accounts=2, knowledge=knowledge)  # type: ignore[arg-type]
        own = job(worlds, threat=threat, resources=held, defense=defense, max_rows=3)
        seat = seat_attacker(own, seat_games(own))
        assert seat.defense == told
        assert seat.resources.images is not held.images and seat.resources.labels is not held.labels
        assert torch.equal(seat.resources.images, held.images)
        assert seat.max_rows == 3
        assert seat.state.left.tolist() == [9] * 4
    assert seat.defense is not defense


def test_seeds_of_players_and_repeats_differ() -> None:
    assert seed_of("attacker", 5, 1) == draws.derive(5, "attacker", 1)
    players = ("attacker", "defender")
    seeds = {seed_of(who, seed, repeat) for who in players for seed in (0, 1) for repeat in (0, 1)}
    assert len(seeds) == 8
