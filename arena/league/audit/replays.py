"""The indicators of a failed attack that need play: a sample of logged games under other rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from arena.game.blame import DefenderError
from arena.game.shard import Job
from arena.league.audit.comparing import compare
from arena.league.audit.figures import counted, percent
from arena.league.audit.frozen import freeze
from arena.league.audit.roles import is_control
from arena.league.audit.said import Indicator, Said, Subject, cells, of_cell, whole
from arena.league.audit.sampling import GAMES, Sample, sample
from arena.league.audit.transfers import transferred
from arena.league.board import Finding
from arena.league.cells import Cell
from arena.league.matrices import Matrix
from arena.messages import UserError
from arena.rules.outcome import Floats
from arena.rules.threat import MOST_QUERIES, Threat
from arena.running.replaying import Replayer
from arena.statistics import wilson

GAINED = 0.05
"""Twice the budget must not win a larger share more of the games, nor shorten the median distance by more."""

WHOLE = "whole games are played again, which go on beyond this count"

Tell = Callable[[str], None]


class Replays:
    """Plays samples of a log's games again and says what came of it.

    Args:
        games: how many of a cell.
        tell: hears which cell is played.
    """

    def __init__(self, replayer: Replayer, games: int = GAMES, tell: Tell = lambda sentence: None) -> None:
        self.replayer, self.games, self.tell = replayer, games, tell
        self._samples: dict[int, Sample | str] = {}

    @property
    def indicators(self) -> tuple[Indicator, ...]:
        """The grave ones first."""
        return (
            Indicator("large-epsilon", True, self._by_cell("large-epsilon", _large_epsilon)),
            Indicator("frozen-draws", False, self._by_cell("frozen-draws", _frozen)),
            Indicator("doubled-budget", False, self._by_cell("doubled-budget", _doubled)),
            Indicator("transfer", False, self._transfers),
        )

    def findings(self, matrix: Matrix) -> list[Finding]:
        """What all of them say of a matrix; its cells must be those of the replayer's log."""
        return [one for indicator in self.indicators for one in indicator.findings(Subject(matrix))]

    def sample(self, cell: Cell) -> Sample | str:
        """The sample of a cell, or why it cannot be played again, in one sentence."""
        source = cell.sources[0]
        if source.match.id not in self._samples:
            try:
                self._samples[source.match.id] = sample(self.replayer, source, self.games)
            except (UserError, DefenderError) as error:
                self._samples[source.match.id] = str(error)
        return self._samples[source.match.id]

    def _by_cell(
        self, name: str, judge: Callable[[Cell, Sample], Said | None]
    ) -> Callable[[Subject], Iterator[Said]]:
        def judged(subject: Subject) -> Iterator[Said]:
            for cell in cells(subject.matrix):
                if is_control(cell, "attacker"):
                    continue
                self.tell(f"{name}: {cell.attacker} against {cell.defender}")
                own = self.sample(cell) if whole(cell) else WHOLE
                said = Said("unchecked", own) if isinstance(own, str) else _of(cell, own, judge)
                if said is not None:
                    yield of_cell(said, cell)

        return judged

    def _transfers(self, subject: Subject) -> Iterator[Said]:
        """Each attacker's final images before the other defenders."""
        for cell in cells(subject.matrix):
            if is_control(cell, "attacker"):
                continue
            self.tell(f"transfer: {cell.attacker} against {cell.defender}")
            own = self.sample(cell) if whole(cell) else WHOLE
            others = [one for one in subject.matrix.of(cell.attacker) if one is not cell]
            if isinstance(own, str):
                yield of_cell(Said("unchecked", own), cell)
            elif not others:
                yield of_cell(Said("unchecked", "its attacker played no other defender"), cell)
            elif len(own):
                yield of_cell(transferred(self.replayer.log, cell, own, others), cell)


def _of(cell: Cell, own: Sample, judge: Callable[[Cell, Sample], Said | None]) -> Said | None:
    return judge(cell, own) if len(own) else None


def _frozen(cell: Cell, own: Sample) -> Said | None:
    """Does the attack win once the defense's draws stand still?"""
    if not any(job.stack.random for job, _ in own.jobs):
        return None
    found = own.play(lambda job: replace(job, stack=freeze(job.stack, job.defender_seed)))
    pair = compare(found, own.logged, cell.threat)
    said = f"with its draws frozen, beside the log: {pair.text}"
    if pair.ahead:
        advice = "Its draws hold the attack off: play one that averages or repeats (`eot`, `vote`)."
        return Said("found", said, advice)
    if pair.level:
        return Said("clear", said)
    return Said("unchecked", f"too few games to tell whether frozen draws matter: {pair.text}")


def _doubled(cell: Cell, own: Sample) -> Said:
    """Does twice the budget win more?"""
    most = cell.threat.budget * 2
    if most > MOST_QUERIES:
        return Said("unchecked", f"no budget may exceed {MOST_QUERIES:,} queries")
    found = own.play(lambda job: replace(job, threat=job.threat.with_budget(job.threat.budget * 2)))
    pair = compare(found, own.logged, cell.threat)
    said = f"at {most:,} queries beside {cell.threat.budget:,}: {pair.text}"
    gain = _gain(cell.threat, found, own.logged)
    if gain > GAINED:
        return Said(
            "found", said, "Not converged: read the figures as those of this budget, or play a larger one."
        )
    return Said("clear", said, nearness=gain)


def _gain(threat: Threat, found: Floats, logged: Floats) -> float:
    if threat.objective != "minimum":
        return float(found.mean() - logged.mean())
    after, before = float(np.median(found)), float(np.median(logged))
    if not math.isfinite(before):
        return 1.0 if math.isfinite(after) else 0.0
    return 1 - after / before if before > 0 else 0.0


def unbounded(job: Job) -> Job:
    """The job with a ball that holds every image."""
    threat, size = job.threat, job.openings.x0[0].numel()
    epsilon = 1.0 if threat.norm == "linf" else math.sqrt(size)
    return replace(job, threat=threat.model_copy(update={"epsilon": epsilon}))


def _large_epsilon(cell: Cell, own: Sample) -> Said:
    """Does the attack win where every image may be sent?"""
    found = own.play(unbounded)
    won = found if cell.threat.objective != "minimum" else np.isfinite(found).astype(np.float64)
    total, kept = len(won), float((1 - won).sum())
    chance = 1 / cell.sources[0].match.info.classes
    low, _ = wilson(kept, total)
    said = f"in a ball that holds every image {counted(round(total - kept), total, 'games')} are won"
    if low > chance:
        left = f"{said}, so that more is kept than by chance ({percent(chance)})"
        advice = "The attack, not the defense, is at fault: no defense can hold there."
        return Said("found", left, advice)
    if kept / total <= chance:
        return Said("clear", said, nearness=kept / total)
    return Said("unchecked", f"too few games to tell from chance: {said}")
