"""Jobs: one function seats a job, one plays it (docs/design.md, D7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arena import draws
from arena.classifiers.served import asking
from arena.classifiers.threads import computing_threads
from arena.game.blame import AttackerError, DefenderError
from arena.game.driver import drive
from arena.game.openings import Openings
from arena.game.referee import Referee
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.game.verdicts import end_unplayed
from arena.modes import own_modes
from arena.players.attacker import Attacker
from arena.players.seat import Games, Resources
from arena.records.pieces import LogLevel, Pieces, Recorder
from arena.records.reports import GameRows, Listener
from arena.rules.limits import USUAL, Limits
from arena.rules.threat import Threat
from arena.surroundings import own_surroundings


@dataclass(frozen=True, eq=False)
class GameSetup:
    """What games are played on, and by which rules.

    Attributes:
        stack: the defended classifier, prepared.
        openings: the games' images, labels, targets and numbers.
        at: query counts to report, besides 0 and the end.
        votes: fresh answers per vote of a random defender.
        limits: of what the agents may take besides queries.
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
    limits: Limits = USUAL


@dataclass(frozen=True, eq=False)
class Job(GameSetup):
    """A shard of a match: all that decides how it is played.

    Attributes:
        attacker: who plays; attacker_seed: of its draws.
        resources: what it owns; defense: what it is told of the defense where the threat grants that.
        level: how many of the rows are recorded.
        margin_base: whether the margin of the hardened classifier alone is recorded beside each query's.
    """

    attacker: Attacker = field(kw_only=True)
    attacker_seed: int = field(kw_only=True)
    resources: Resources | None = None
    defense: Mapping[str, Any] | None = None
    level: LogLevel = "queries"
    margin_base: bool = False


def seed_of(who: str, seed: int, repeat: int) -> int:
    """The seed of the "attacker" or the "defender" in a replay of the games, from the scenario's."""
    return draws.derive(seed, who, repeat)


@asking("openings")
def seat_games(setup: GameSetup, listener: Listener | None = None, *, monitored: bool = False) -> Referee:
    """The Referee of a setup, before the first move; `monitored` as there."""
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
        limits=setup.limits,
        monitored=monitored,
    )


def seat_attacker(job: Job, referee: Referee) -> Games:
    """The seat of a job's attacker at the referee's games."""
    defense = None if job.defense is None else dict(job.defense)
    return referee.seat(seed=job.attacker_seed, defense=defense, resources=job.resources)


@own_modes()
@computing_threads(1)
def play_shard(job: Job, recorder: Recorder) -> None:
    """Play a job to its end; what happens goes to `recorder` in pieces, the last of which has the games.

    Beside the classifier all is computed in one thread, and whatever surrounds the call: torch's modes, the
    global random generators, the current folder and so on are as they were before when it returns.

    An attacker that fails ends its open games with reason `error`, a defender that fails all of them; a note
    of that key says why.

    Raises:
        ClassifierError: if the classifier fails: that is no agent's doing.
    """
    pieces = Pieces(recorder, job.level, job.threat)
    with own_surroundings(job.attacker_seed):
        try:
            referee = seat_games(job, pieces, monitored=job.margin_base)
        except DefenderError as failure:
            end_unplayed(job.openings, job.threat, job.at, str(failure), pieces)
        else:
            play_games(job.attacker, referee, seat_attacker(job, referee))
    pieces.close()


def record_unplayed(
    openings: Openings, threat: Threat, at: Sequence[int], said: str, recorder: Recorder
) -> None:
    """Record a shard whose defenders could not be prepared: all of its games end in `error`.

    Args:
        said: why, for the log.
    """
    pieces = Pieces(recorder, threat=threat)
    end_unplayed(openings, threat, at, said, pieces)
    pieces.close()


def play_games(attacker: Attacker, referee: Referee, seat: Games) -> GameRows:
    """Let `attacker` play all of the referee's games to their end."""
    try:
        try:
            return referee.finish(drive(attacker, seat, referee, referee.limits))
        except AttackerError as failure:
            return _fail(referee, str(failure))
    except DefenderError as failure:
        return referee.abandon(str(failure))


def _fail(referee: Referee, said: str) -> GameRows:
    referee.remark("error", referee.open.nonzero()[0], said)
    return referee.finish("error")
