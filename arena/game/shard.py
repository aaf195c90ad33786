"""Jobs: one function seats a job, one plays it (docs/design.md, D7)."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arena import draws
from arena.classifiers.served import asking
from arena.classifiers.threads import computing_threads
from arena.game.driver import AttackerError, drive
from arena.game.openings import Openings
from arena.game.referee import Referee
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.modes import own_modes
from arena.players.attacker import Attacker
from arena.players.seat import Games, Resources
from arena.records.pieces import LogLevel, Pieces, Recorder
from arena.records.reports import GameRows, Listener, NoteRows
from arena.rules.threat import Threat


@dataclass(frozen=True, eq=False)
class GameSetup:
    """What games are played on, and by which rules.

    Attributes:
        stack: the defended classifier, prepared.
        openings: the games' images, labels, targets and numbers.
        at: query counts to report, besides 0 and the end.
        votes: fresh answers per vote of a random defender.
        defender_seed: of the defenders' draws.
        max_rows: the longest volley; None: `longest_volley`.
    """

    stack: Stack
    openings: Openings
    threat: Threat
    defender_seed: int
    at: Sequence[int] = ()
    votes: int = 25
    max_rows: int | None = None


@dataclass(frozen=True, eq=False)
class Job(GameSetup):
    """A shard of a match: all that decides how it is played.

    Attributes:
        attacker: who plays; attacker_seed: of its draws.
        resources: what it owns; defense: what it is told of the defense where the threat grants that.
        level: how many of the rows are recorded.
    """

    attacker: Attacker = field(kw_only=True)
    attacker_seed: int = field(kw_only=True)
    resources: Resources | None = None
    defense: Mapping[str, Any] | None = None
    level: LogLevel = "queries"


def seed_of(who: str, seed: int, repeat: int) -> int:
    """The seed of the "attacker" or the "defender" in a replay of the games, from the scenario's."""
    return draws.derive(seed, who, repeat)


@asking("openings")
def seat_games(setup: GameSetup, listener: Listener | None = None) -> Referee:
    """The Referee of a setup, before the first move."""
    oracle = StackOracle(
        setup.stack,
        seed=setup.defender_seed,
        games=len(setup.openings),
        accounts=setup.threat.accounts,
    )
    return Referee(
        oracle,
        setup.openings,
        setup.threat,
        at=setup.at,
        votes=setup.votes,
        listener=listener,
        max_rows=setup.max_rows,
    )


def seat_attacker(job: Job, referee: Referee) -> Games:
    """The seat of a job's attacker at the referee's games."""
    defense = None if job.defense is None else dict(job.defense)
    return referee.seat(seed=job.attacker_seed, defense=defense, resources=job.resources)


@own_modes()
@computing_threads(1)
def play_shard(job: Job, recorder: Recorder) -> None:
    """Play a job to its end; what happens goes to `recorder` in pieces, the last of which has the games.

    Beside the classifier all is computed in one thread, and whatever torch modes surround the call.

    An attacker that fails ends its open games with reason `error`, and a note of that key says why.
    """
    pieces = Pieces(recorder, job.level)
    referee = seat_games(job, pieces)
    play_games(job.attacker, referee, seat_attacker(job, referee))
    pieces.close()


def play_games(attacker: Attacker, referee: Referee, seat: Games) -> GameRows:
    """Let `attacker` play all of the referee's games to their end."""
    try:
        return referee.finish(drive(attacker, seat, referee))
    except AttackerError as failure:
        return _fail(referee, failure.error)


def _fail(referee: Referee, error: Exception) -> GameRows:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename]
    place = (own or frames)[-1]
    where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
    said = f"{type(error).__name__}: {error} ({where})"
    games = referee.open.nonzero()[0]
    referee.listener.notes(NoteRows("error", games, referee.board.ledger.queries[games], [said] * len(games)))
    return referee.finish("error")
