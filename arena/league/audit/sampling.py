"""Some games of logged matches, played again under other rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from arena.game.shard import Job, play_shard
from arena.league.cells import Source
from arena.log.shard_rows import LoggedShard
from arena.records.evidence import distance_by
from arena.records.pieces import Piece
from arena.records.reports import GameRows
from arena.rules.outcome import Floats, Ints
from arena.running.replaying import Replayer
from arena.scenario.jobs import own_copy

GAMES = 20
"""How many games of a cell are played again unless the caller says otherwise."""

Change = Callable[[Job], Job]


@dataclass(frozen=True, eq=False)
class Sample:
    """The first games of a match that were played, in the order of the log.

    Attributes:
        source: the match; rows: [n] the places of the games in `source.games`.
        jobs: what plays them as they were played, seeds included, and which of the rows each plays.
    """

    source: Source
    rows: Ints
    jobs: tuple[tuple[Job, Ints], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def logged(self) -> Floats:
        """[n] what the attacker did in them by the log, as `play` gives it."""
        games, norm = self.source.games, self.source.threat.norm
        distance = np.asarray(getattr(games, norm), np.float64)[self.rows]
        return _did(self.source, games.vote[self.rows], distance)

    def play(self, change: Change) -> Floats:
        """[n] what the attacker does where their jobs are changed.

        It is the share of fresh answers to the final image that are wrong; under objective `minimum` its
        distance, infinite where at most half of them are.

        Raises:
            ClassifierError: if the classifier fails.
        """
        found = np.zeros(len(self.rows))
        for job, rows in self.jobs:
            games = played(change(job))
            distance = np.nan_to_num(np.asarray(getattr(games, self.source.threat.norm)), nan=np.inf)
            found[np.searchsorted(self.rows, rows)] = _did(self.source, games.vote, distance)
        return found


def sample(replayer: Replayer, source: Source, games: int = GAMES) -> Sample:
    """The first `games` games of a match that the classifier did not lose before they began.

    Raises:
        ReplayError, ScenarioError, DefenderError: if the match cannot be played again here.
    """
    own = source.games
    clean = np.array([reason == "clean" for reason in own.reason], np.bool_)
    rows = np.flatnonzero(~clean)[:games]
    jobs = []
    for shard in replayer.shards(source.match.id):
        here = np.flatnonzero((own.shard == shard.number) & (own.repeat == shard.repeat))
        wanted = np.intersect1d(here, rows)
        if len(wanted):
            jobs.append((_part(replayer, shard, wanted - here[0]), wanted))
    return Sample(source, rows, tuple(jobs))


def played(job: Job) -> GameRows:
    """How the games of a job end."""
    kept = _Ends()
    play_shard(replace(job, attacker=own_copy(job.attacker), level="games", at=()), kept)
    assert kept.games is not None
    return kept.games


class _Ends:
    """A recorder that keeps how games end, and nothing else."""

    games: GameRows | None = None

    def record(self, piece: Piece) -> None:
        self.games = piece.games or self.games


def _part(replayer: Replayer, shard: LoggedShard, places: Ints) -> Job:
    """A shard's games at some places."""
    job = replayer.job(shard)
    index = torch.as_tensor(places, device=job.openings.x0.device)
    owned = job.resources
    if owned is not None and owned.starts is not None:
        owned = replace(owned, starts=owned.starts[index])
    return replace(job, openings=job.openings[index], resources=owned)


def _did(source: Source, vote: Floats, distance: Floats) -> Floats:
    if source.threat.objective != "minimum":
        return np.asarray(vote, np.float64)
    return distance_by("vote", distance, vote)
