"""Checks a submission: that its card, scenario and log agree, and that shards of it, drawn by chance, are as
the log says when they are played again (docs/submissions.md)."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Literal

from arena.classifiers import ClassifierError
from arena.datasets import DatasetError
from arena.game.blame import DefenderError
from arena.log import Log, LogError, questions
from arena.log.shard_rows import LoggedShard
from arena.log.strangers import open_strangers
from arena.running.agreement import Agreement, agree
from arena.running.cards import Card, CardError, read_card
from arena.running.comparing import ShareCheck
from arena.running.rebuilding import ReplayError
from arena.running.replaying import Checked, Replayer
from arena.running.submission_files import Files, SubmissionError, check_code, find_files
from arena.running.utility_checks import check_utility
from arena.scenario.errors import ScenarioError
from arena.scenario.files import Scenario, load_scenario
from arena.scenario.seeds import PUBLIC, Seeds

SAMPLE = 5
"""Shards that are played again where nobody says how many."""
Status = Literal["bit for bit", "within tolerance", "failed", "not checked"]
_UNPLAYABLE = (ReplayError, ScenarioError, ClassifierError, DatasetError, DefenderError, FileNotFoundError)


@dataclass(frozen=True)
class ShardOutcome:
    """What came of a shard that was drawn.

    Attributes:
        match: its names; match_id, number, repeat: where it is in the log.
        status: `not checked` where it cannot be played here.
        said: one sentence: what was compared, or what differs.
        shares: the verdict shares of both.
    """

    match: str
    match_id: int
    number: int
    repeat: int
    status: Status
    said: str
    shares: tuple[ShareCheck, ...] = ()


@dataclass(frozen=True)
class SubmissionReport:
    """What came of a submission.

    Attributes:
        folder: its name; card: None where it is none.
        log, scenario: their names; matches, shards: how many the log holds.
        seed: which shards are drawn follows from it.
        faults: sentences on what is wrong; one is enough to fail.
        unchecked: sentences on what could not be looked at.
        outcomes: of the shards that were drawn. pooled: their verdict shares together.
        utilities: how many of the defended classifiers were evaluated again.
    """

    folder: str
    card: Card | None
    log: str
    scenario: str
    matches: int
    shards: int
    seed: int
    faults: tuple[str, ...]
    unchecked: tuple[str, ...] = ()
    outcomes: tuple[ShardOutcome, ...] = ()
    pooled: tuple[ShareCheck, ...] = ()
    utilities: int = 0

    @property
    def status(self) -> Status:
        """Of the whole: as weak as its weakest part."""
        found = {outcome.status for outcome in self.outcomes}
        if self.faults or "failed" in found or not all(share.within for share in self.pooled):
            return "failed"
        if not found or "not checked" in found or self.unchecked:
            return "not checked"
        return "within tolerance" if "within tolerance" in found else "bit for bit"

    @property
    def summary(self) -> str:
        """One sentence for a page."""
        counts = {
            status: sum(outcome.status == status for outcome in self.outcomes)
            for status in ("bit for bit", "within tolerance", "failed", "not checked")
        }
        told = ", ".join(f"{n} {_WORDS[status]}" for status, n in counts.items() if n) or "none"
        faults = f"; {len(self.faults)} faults were found" if len(self.faults) > 1 else ""
        faults = "; 1 fault was found" if len(self.faults) == 1 else faults
        return f"{len(self.outcomes)} of {self.shards} shards replayed: {told}{faults}"

    @property
    def chance_missed(self) -> float:
        """The chance that, had one shard alone been altered, it is none of those drawn."""
        return 1 - len(self.outcomes) / self.shards if self.shards else 1.0


_WORDS = {
    "bit for bit": "equal bit for bit",
    "within tolerance": "within tolerance, on another machine or version",
    "failed": "failed",
    "not checked": "not playable here",
}


@dataclass
class _Findings:
    """What is found on the way."""

    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @contextmanager
    def telling(self, *kinds: type[Exception]) -> Iterator[None]:
        """An error of these kinds within is a fault."""
        try:
            yield
        except kinds as error:
            self.faults += str(error).splitlines()


def check_submission(
    folder: Path,
    *,
    sample: int = SAMPLE,
    seed: int | None = None,
    data_dirs: Sequence[Path] = (),
    device: str | None = None,
    prepared: Path | None = None,
    trusted: Collection[str] = (),
    seeds: Seeds = PUBLIC,
    hear: Callable[[ShardOutcome], None] = lambda outcome: None,
) -> SubmissionReport:
    """Look at a submission, and play a sample of its shards again.

    Args:
        sample: how many shards; all of them, if there are no more.
        seed: which ones; None: a new one that nobody could know when the submission was made.
        trusted: "module:Class" and functions of the submitter that may be run here.
        seeds: those of the secret that a ranked run was played with.
        hear: is told each outcome at once.

    Raises:
        SubmissionError: if the folder does not hold the three files, or the scenario names code that nothing
            here may run.
    """
    seed = secrets.randbits(63) if seed is None else seed
    files, found, card = find_files(folder), _Findings(), None
    with found.telling(CardError):
        card = read_card(files.card)
    check_code(files.scenario, trusted)
    names = (folder.name, card, files.log.name, files.scenario.stem)
    outcomes: list[ShardOutcome] = []
    matches = shards = utilities = 0
    with found.telling(LogError, ScenarioError, SubmissionError), open_strangers(files.log) as log:
        with _values_are_some(files.log):
            scenario = _scenario(log, files)
            agreement = agree(log, scenario, card)
        found.faults += agreement.faults
        matches, shards = len(agreement.matches), len(agreement.shards)
        with Replayer(
            log,
            data_dirs=data_dirs,
            device=device,
            prepared=prepared,
            trusted=trusted,
            known=scenario.matches,
            folder=folder,
            seeds=seeds,
        ) as replayer:
            drawn = random.Random(seed).sample(agreement.shards, min(sample, shards))
            for shard in sorted(drawn, key=lambda one: one.id):
                with _values_are_some(files.log):
                    outcomes.append(_outcome(replayer, agreement, shard))
                hear(outcomes[-1])
            with _values_are_some(files.log):
                utilities = _check_rest(replayer, agreement, drawn, found)
    pooled = _pooled(outcomes)
    told = tuple(dict.fromkeys(found.faults)), tuple(dict.fromkeys(found.unchecked))
    return SubmissionReport(*names, matches, shards, seed, *told, tuple(outcomes), pooled, utilities)


@contextmanager
def _values_are_some(log: Path) -> Iterator[None]:
    """Values in a stranger's log that fit their columns and yet are none: a fault, no crash."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise SubmissionError(
            f"log {log} holds values that are none: {type(error).__name__}: {error}"
        ) from error


def _scenario(log: Log, files: Files) -> Scenario:
    """The scenario, in the size in which the log's newest run was played."""
    runs = questions.runs(log)
    size = runs[-1].info.resolved.get("size") if runs else None
    return load_scenario(files.scenario, size if isinstance(size, str) and size else None)


def _outcome(replayer: Replayer, agreement: Agreement, shard: LoggedShard) -> ShardOutcome:
    """Play a shard again."""
    place = (agreement.matches[shard.match_id].name, shard.match_id, shard.number, shard.repeat)
    try:
        checked = replayer.check(shard)
    except _UNPLAYABLE as error:
        return ShardOutcome(*place, "not checked", str(error).splitlines()[0])
    return ShardOutcome(*place, _status(checked), _said(checked), checked.comparison.shares)


def _status(checked: Checked) -> Status:
    if not checked.passed:
        return "failed"
    return "bit for bit" if checked.how == "bits" else "within tolerance"


def _said(checked: Checked) -> str:
    comparison, facts = checked.comparison, checked.replayed.play.other_facts
    rows = comparison.rows
    if checked.how == "bits" and checked.passed:
        return f"{rows['games']:,} games and {rows['queries']:,} logged queries are equal, bit for bit"
    if checked.how == "bits":
        return f"machine, versions and code are the same, and yet {comparison.differences[0]}"
    worst = min(comparison.shares, key=lambda share: share.p)
    differ = f"{len(comparison.games):,} of {rows['games']:,} games differ"
    decided = "" if comparison.within or not worst.within else "; images, labels or targets are others"
    return f"not the same here: {facts[0]}; {differ}; {worst}{decided}"


def _pooled(outcomes: Sequence[ShardOutcome]) -> tuple[ShareCheck, ...]:
    """The verdict shares over all shards of another machine's."""
    columns = list(zip(*(one.shares for one in outcomes if one.status == "within tolerance"), strict=True))
    return tuple(reduce(add, column) for column in columns)


def _check_rest(
    replayer: Replayer, agreement: Agreement, drawn: Sequence[LoggedShard], found: _Findings
) -> int:
    """What can be looked at without playing: of every match the games that it should have; and of those drawn
    the defended classifier's worth. Returns how many were evaluated."""
    evaluated = 0
    for match_id in agreement.matches:
        try:
            play = replayer.open(match_id)
            found.faults += agreement.check_games(replayer.log, play)
            found.faults += agreement.check_sides(play)
            if any(shard.match_id == match_id for shard in drawn):
                count, faults = check_utility(replayer.log, play)
                evaluated += count
                found.faults += faults
        except _UNPLAYABLE as error:
            found.unchecked += str(error).splitlines()[:1]
    return evaluated
