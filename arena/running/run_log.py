"""Where a run is recorded, as the runner needs it: no database is in sight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.records.pieces import LogLevel, Recorder
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import Ints


class RunLog(Protocol):
    """Keeps runs, the matches that they consist of, and the shards of these. `arena.log.Log` is one."""

    def find_or_begin_run(self, info: RunInfo) -> tuple[int, bool]:
        """The newest run with the same fingerprint, or a new one, in one step that no other process takes
        meanwhile: its id, and whether it has ended."""

    def begin_run(self, info: RunInfo) -> int:
        """Record a new run; its id."""

    def end_run(self, run_id: int) -> None:
        """Record that the run has ended, unless another process did."""

    def begin_match(self, run_id: int, info: MatchInfo, fresh: bool = False) -> int:
        """Make a match one of the run's, found by its fingerprint unless `fresh`, or begun; its id."""

    def record_words(self, run_id: int, number: int, words: Mapping[str, Any]) -> None:
        """Record how a run shows one of its matches, in place of what was recorded."""

    def find_utility(self, match_id: int, images: int) -> Utility | None:
        """What the match's stack is worth on so many clean images; None if nobody recorded it."""

    def record_utility(self, match_id: int, utility: Utility) -> None:
        """Record it, unless one on as many images is recorded."""

    def find_benign(self, match_id: int, sessions: int) -> Sequence[BenignLoss]:
        """What so many benign clients of each kind lost to the match's stack, as far as it is recorded."""

    def record_benign(self, match_id: int, loss: BenignLoss) -> None:
        """Record it, unless it is recorded."""

    def finished_shards(self, match_id: int) -> Mapping[tuple[int, int], str]:
        """The fingerprints of the match's finished shards by (number, repeat)."""

    def in_play(self, match_id: int) -> Mapping[tuple[int, int], str]:
        """Which shards of the match other processes play, by (number, repeat): who does, in words."""

    def discard_unfinished(self, match_id: int) -> int:
        """Remove what is left of unfinished shards of the match that no living process plays; how many there
        were."""

    def shard(
        self,
        match_id: int,
        number: int,
        repeat: int,
        fingerprint: str,
        keys: Ints,
        level: LogLevel = "queries",
    ) -> AbstractContextManager[Recorder]:
        """A recorder for a shard, which belongs to this process within the `with` statement, and is finished,
        all at once, when that ends well. Entering it, and all within, may raise `ShardLost`."""
