"""Final images that were found against one defender, put to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.game.shard import Job
from arena.league.audit.figures import counted, exceeds
from arena.league.audit.said import Said
from arena.league.audit.sampling import Sample, played
from arena.league.cells import Cell, Source
from arena.log import Log, questions
from arena.players import Attacker, Games, Play
from arena.records.evidence import distance_by
from arena.rules.outcome import Bools, Floats, Ints

FOOLED = 0.05
"""Found from a larger share of the images, on which what was found against another defender does better."""


@dataclass(frozen=True, eq=False)
class HandIn(Attacker):
    """Hands in images [G,C,H,W] without a query."""

    images: Tensor

    def play(self, games: Games) -> Play:
        yield from games.submit(self.images[games.open], games.open)


def transferred(log: Log, cell: Cell, own: Sample, others: Sequence[Cell]) -> Said:
    """What the images that the attacker found against `others` do to the cell's defender, on the sample."""
    best: tuple[int, int, str] = (-1, 0, "")
    for other in others:
        rows, places = _shared(own, other.sources[0])
        if len(rows):
            wins = _beats(log, cell, own, other.sources[0], rows, places)
            best = max(best, (int(wins.sum()), len(wins), other.defender))
    count, total, defender = best
    if count < 0:
        return Said("unchecked", "its attacker played no other defender on the same images")
    minimum = cell.threat.objective == "minimum"
    does = "win at a smaller distance than its own" if minimum else "win where its own do not"
    said = f"its images against {defender} {does} on {counted(count, total, 'images')}"
    if not exceeds(count, total, FOOLED):
        return Said("clear", said, nearness=count / total)
    advice = "The direct attack is the weaker one: judge the defense by the better image of each game."
    return Said("found", said, advice)


def _shared(own: Sample, other: Source) -> tuple[Ints, Ints]:
    """The rows of the sample whose games `other` has too, and their places in its games."""
    named = {name: place for place, name in enumerate(_names(other))}
    names = _names(own.source)
    rows = [row for row in own.rows.tolist() if names[row] in named]
    return np.array(rows, np.int64), np.array([named[names[row]] for row in rows], np.int64)


def _names(source: Source) -> list[tuple[int, int]]:
    return list(zip(source.games.image.tolist(), source.games.repeat.tolist(), strict=True))


def _beats(log: Log, cell: Cell, own: Sample, other: Source, rows: Ints, places: Ints) -> Bools:
    """[n] whether the images of `other` at `places` [n] do better than those handed in in the games at `rows`
    [n] of the sample."""
    vote = np.zeros(len(rows))
    for job, played_rows in own.jobs:
        here = np.flatnonzero(np.isin(rows, played_rows))
        if len(here):
            games = other.games.game[places[here]]
            finals = np.stack([questions.game(log, int(game)).final for game in games])
            vote[here] = _votes(job, np.searchsorted(played_rows, rows[here]), finals)
    logged = own.logged[np.searchsorted(own.rows, rows)]
    if cell.threat.objective != "minimum":
        return np.asarray((vote > 0.5) & (logged <= 0.5))
    distance = np.asarray(getattr(other.games, cell.threat.norm), np.float64)[places]
    return np.asarray(distance_by("vote", distance, vote) < logged)


def _votes(job: Job, places: Ints, images: NDArray[np.float32]) -> Floats:
    """[n] the share of wrong fresh answers to `images` [n,C,H,W] in a job's games at `places` [n]."""
    index = torch.as_tensor(places, device=job.openings.x0.device)
    attacker = HandIn(torch.as_tensor(images, dtype=torch.float32, device=index.device))
    threat = job.threat.model_copy(update={"objective": "submit"})
    rows = replace(job, openings=job.openings[index], resources=None, attacker=attacker, threat=threat)
    return played(rows).vote
